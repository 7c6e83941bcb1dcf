"""What the chart renders, put before a real API server."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.helm import CHART, NAMESPACE, one, pod_specs, render, run_helm
from support.kubernetes import program
from support.wait import wait_until

pytestmark = pytest.mark.apiserver
LEVELS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": {
        "gateway": {"insecureNoAuth": True, "autoscaling": {"enabled": True}, "service": {"type": "LoadBalancer"}},
        "redis": {"persistence": {"enabled": True}, "auth": {"existingSecret": "redis"}},
        "networkPolicies": {"enabled": True, "gatewayFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    },
    "namespaced": {"operator": {"watchNamespaces": [NAMESPACE]}},
}


@pytest.fixture
def namespace(kube_api: Path) -> Iterator[str]:
    """A namespace that enforces the restricted Pod Security level."""
    name = f"chart-{uuid.uuid4().hex[:8]}"
    _apply(kube_api, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": LEVELS}})
    yield name
    _kubectl(kube_api, "delete", "namespace", name, "--wait=false")


def _kubectl(kubeconfig: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [program("kubectl"), "--kubeconfig", str(kubeconfig), *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)


def _apply(kubeconfig: Path, *objects: dict[str, Any], dry: bool = False) -> str:
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    flags = ["--dry-run=server"] if dry else []
    done = _kubectl(kubeconfig, "apply", "--server-side", "--validate=strict", *flags, "-f", "-", given=document)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("variant", VARIANTS)
def test_api_server_accepts_every_object(kube_api: Path, namespace: str, variant: str) -> None:
    """A real API server accepts everything that the chart renders, strictly and without a warning."""
    text = json.dumps(render(VARIANTS[variant])).replace(NAMESPACE, namespace)
    assert _apply(kube_api, *json.loads(text), dry=True) == ""


@pytest.mark.parametrize("variant", ["default", "everything"])
def test_pods_pass_the_restricted_level(kube_api: Path, namespace: str, variant: str) -> None:
    """Pods made from the chart's templates are admitted to a namespace that enforces `restricted`."""
    for name, spec in pod_specs(render(VARIANTS[variant])).items():
        volumes = [*spec.get("volumes", []), {"name": "data", "emptyDir": {}}]
        spec = {**spec, "serviceAccountName": "default", "volumes": {item["name"]: item for item in volumes}.values()}
        spec["volumes"] = list(spec["volumes"])
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        }
        _apply(kube_api, account)
        assert _apply(kube_api, pod, dry=True) == ""


def test_rights_reach_every_namespace_that_is_served(kube_api: Path, namespace: str) -> None:
    """With `watchNamespaces` the gateway finds endpoints there and beside the operator, and nowhere else; the operator
    sees what is free on nodes."""
    values = {"operator": {"watchNamespaces": ["default"]}}
    text = json.dumps(render(values)).replace(NAMESPACE, namespace)
    roles = [item for item in json.loads(text) if item["apiVersion"].startswith("rbac.authorization.k8s.io/")]

    def may(account: str, verb: str, resource: str, *where: str) -> bool:
        who = f"--as=system:serviceaccount:{namespace}:capstan-{account}"
        return _kubectl(kube_api, "auth", "can-i", verb, resource, who, *where).stdout.strip() == "yes"

    def reached(account: str, resource: str) -> list[str]:
        places = {
            "default": ("-n", "default"),
            "own": ("-n", namespace),
            "other": ("-n", "kube-public"),
            "all": ("-A",),
        }
        return [place for place, where in places.items() if may(account, "list", resource, *where)]

    _apply(kube_api, *roles)
    try:
        wait_until(lambda: may("operator", "list", "nodes"), what="the roles to count")
        wait_until(lambda: len(reached("gateway", "endpointslices")) > 1, what="the gateway's roles to count")
        assert reached("gateway", "endpointslices") == ["default", "own"]
        assert reached("operator", "deployments.apps") == ["default", "own"]
        assert reached("operator", "pods") == ["default", "own", "other", "all"]
    finally:
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": roles})
        _kubectl(kube_api, "delete", "--ignore-not-found", "-f", "-", given=document)


@pytest.mark.parametrize("there", [None, False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_redis_gets_and_loses_no_claim(kube_api: Path, namespace: str, there: bool | None, wanted: bool) -> None:
    """An upgrade that would give Redis a claim, or take it, which Kubernetes refuses for a StatefulSet that is there,
    fails before anything is applied, and says what to do."""
    if there is not None:
        _put_redis(kube_api, namespace, persistence={"enabled": there})
    done = _render_there(kube_api, namespace, {"redis": {"persistence": {"enabled": wanted}}})
    refused = there is not None and there is not wanted
    assert (done.returncode != 0) is refused, done.stderr
    assert (f"kubectl delete statefulset capstan-redis -n {namespace}" in done.stderr) is refused


@pytest.mark.parametrize("release", ["capstan", "capstan-other"])
@pytest.mark.parametrize("wanted", [None, False, True])
def test_a_redis_that_is_there_stays(kube_api: Path, namespace: str, wanted: bool | None, release: str) -> None:
    """An upgrade that says nothing of Redis keeps one that this release has, so that limits go on being counted
    together; it ends where it is not wanted; one that another release has brings none."""
    _put_redis(kube_api, namespace, release=release)
    done = _render_there(kube_api, namespace, {"redis": {"enabled": wanted}})
    assert done.returncode == 0, done.stderr
    stays = release == "capstan" if wanted is None else wanted
    assert ("kind: StatefulSet" in done.stdout) is stays


def _put_redis(kubeconfig: Path, namespace: str, *, release: str = "capstan", **redis: Any) -> None:
    found = one(render({"redis": {"enabled": True, **redis}}), "StatefulSet", "capstan-redis")
    found["metadata"]["namespace"] = namespace
    found["metadata"]["labels"]["app.kubernetes.io/instance"] = release
    assert _apply(kubeconfig, found) == ""


def _render_there(kubeconfig: Path, namespace: str, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    where = ("--namespace", namespace, "--kubeconfig", str(kubeconfig), "--dry-run=server", "--kube-version", "1.34.0")
    return run_helm("template", "capstan", str(CHART), *where, values=values)
