"""The whole chart for six sets of values, as platform teams install it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.helm import CHART, NAMESPACE, PROMETHEUS, render, run_helm
from support.kubectl import Kubectl
from support.needs import ROOT
from support.wait import wait_until

HERE = Path(__file__).parent
SETS = ("default", "openshift", "airgap", "ingress", "httproute", "everything")
APIS = {"everything": (PROMETHEUS,)}
"""What the cluster knows beside Kubernetes' own kinds, as `helm template` is told."""
KINDS = (ROOT / "tests" / "data" / "monitoring" / "crds.yaml",)
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


def values_of(name: str) -> dict[str, Any]:
    """Give a set of values."""
    return dict(yaml.safe_load((HERE / "values" / f"{name}.yaml").read_text()))


def objects_of(name: str) -> list[dict[str, Any]]:
    """Give what the chart renders to, by kind and name."""
    objects = render(values_of(name), apis=APIS.get(name, ()))
    return sorted(objects, key=lambda item: (item["kind"], item["metadata"]["name"]))


@pytest.mark.parametrize("name", SETS)
def test_lints_clean(name: str) -> None:
    """`helm lint --strict` has nothing to say."""
    # It cannot be told what kinds a cluster knows, so it is asked without those that are not Kubernetes' own.
    values = {key: value for key, value in values_of(name).items() if key != "monitoring"}
    done = run_helm("lint", str(CHART), "--strict", "--kube-version", "1.34.0", values=values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def cluster(kube_api: Path) -> Iterator[Kubectl]:
    """An API server with the kinds that the chart has objects of, and what pods of `everything` name; they go again."""
    kubectl = Kubectl(kube_api)
    kinds = [flag for path in KINDS for flag in ("-f", str(path))]
    kubectl("apply", "--server-side", *kinds)
    # kubectl does not wait for a kind without any condition, as it is at first: it fails.
    wait_until(lambda: "NamesAccepted" in kubectl("get", *kinds, "-o", "json"), what="kinds")
    kubectl("wait", "--for=condition=Established", "--timeout=60s", *kinds)
    runtime = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "gvisor"},
        "handler": "runsc",
    }
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(runtime))
    yield kubectl
    kubectl("delete", "runtimeclass", "gvisor")
    kubectl("delete", "--wait=false", *kinds)


@pytest.fixture
def namespaces(cluster: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """Namespaces that enforce the restricted Pod Security level: the install's, which is given, and those it serves."""
    name = request.node.callspec.params["name"]
    install = f"golden-{name}"
    made = [install, *values_of(name).get("operator", {}).get("watchNamespaces", [])]
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}} for name in made
    ]
    cluster("apply", "--server-side", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    wait_until(lambda: "default" in cluster("get", "serviceaccounts", "-n", install, "-o", "name"), what="its account")
    yield install
    cluster("delete", "namespace", *made, "--wait=false")


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    """Give a pod as its controller would make it, with an account that is there already."""
    name, namespace = workload["metadata"]["name"], workload["metadata"]["namespace"]
    spec = {key: value for key, value in workload["spec"]["template"]["spec"].items() if key != "serviceAccountName"}
    claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    spec["volumes"] = [*spec.get("volumes", []), *volumes]
    metadata = {**workload["spec"]["template"]["metadata"], "name": f"pod-of-{name}", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.mark.apiserver
@pytest.mark.parametrize("name", SETS)
def test_an_api_server_takes_all_of_it(name: str, cluster: Kubectl, namespaces: str) -> None:
    """A real API server takes every object strictly, and a pod of every template in a `restricted` namespace."""
    objects = json.loads(json.dumps(objects_of(name)).replace(NAMESPACE, namespaces))
    pods = [pod_of(item) for item in objects if item["kind"] in ("Deployment", "StatefulSet")]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*objects, *pods]})
    taken = cluster(
        "apply",
        "--server-side",
        "--validate=strict",
        "--dry-run=server",
        "--warnings-as-errors",
        "-f",
        "-",
        stdin=document,
    )
    assert len(taken.splitlines()) == len(objects) + len(pods)
