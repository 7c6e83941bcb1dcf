#!/bin/sh
# Capstan and the quickstart on a kind cluster on this machine. Needs Docker, kind, kubectl and helm.
#
#   scripts/kind_up.sh up      make the cluster, build and load the images, install the chart, apply the quickstart
#   scripts/kind_up.sh down    delete the cluster
set -eu

cd "$(dirname "$0")/.."
name=${KIND_CLUSTER:-capstan}
namespace=capstan-system
gpus=${GPUS:-8}
# Only names: the images are loaded into the nodes, and everything else comes from where it is published.
registry=localhost/capstan
base=$(sed -n 's/^ARG BASE=//p' operator/Dockerfile)

for tool in docker kind kubectl helm; do
    command -v "$tool" >/dev/null || { echo "error: $tool is not installed" >&2; exit 1; }
done
docker info >/dev/null 2>&1 || { echo "error: the Docker engine does not answer; is it running?" >&2; exit 1; }
on_cluster() { kubectl --context "kind-$name" "$@"; }

# The nodes say that they have GPUs, so that pods which ask for some are scheduled. There are none.
advertise_gpus() {
    for node in $(on_cluster get nodes -l '!node-role.kubernetes.io/control-plane' -o name); do
        on_cluster patch "$node" --subresource=status --type=json --patch "[
          {\"op\": \"add\", \"path\": \"/status/capacity/nvidia.com~1gpu\", \"value\": \"$gpus\"},
          {\"op\": \"add\", \"path\": \"/status/allocatable/nvidia.com~1gpu\", \"value\": \"$gpus\"}]"
    done
}

case ${1:-} in
up)
    kind get clusters | grep -qx "$name" || kind create cluster --name "$name" --config kind-config.yaml --wait 120s
    advertise_gpus
    for part in operator gateway worker; do
        docker build --build-arg BASE="$base" --tag "$registry/$part:dev" --file "$part/Dockerfile" .
        kind load docker-image --name "$name" "$registry/$part:dev"
    done
    helm --kube-context "kind-$name" upgrade --install capstan helm/capstan --namespace "$namespace" --create-namespace \
        --set image.tag=dev --set operator.image.repository="$registry/operator" \
        --set gateway.image.repository="$registry/gateway" --set models.workerImage.repository="$registry/worker" \
        --set gateway.service.type=NodePort --set gateway.service.nodePort=30080 --wait --timeout 5m
    on_cluster apply -f examples/quickstart
    on_cluster wait llmmodels --all --for=condition=Ready --timeout=180s
    on_cluster get llmmodels
    key=$(openssl rand -hex 32)
    printf '{"apiVersion":"v1","kind":"Secret","metadata":{"name":"me","labels":{"capstan.dev/api-key":"true"},"annotations":{"capstan.dev/user":"me"}},"stringData":{"key":"%s"}}' \
        "sk-capstan-$key" | on_cluster apply -n "$namespace" --server-side --force-conflicts -f -
    echo "The gateway is at http://127.0.0.1:8080/v1; ask it with -H 'Authorization: Bearer sk-capstan-$key'."
    echo "\"make kind-down\" deletes the cluster."
    ;;
down)
    kind delete cluster --name "$name"
    ;;
*)
    echo "usage: $0 up|down" >&2
    exit 2
    ;;
esac
