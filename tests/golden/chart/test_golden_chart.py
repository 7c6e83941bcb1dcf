"""The whole chart for six sets of values, as platform teams install it.

Write the expected files again, and look at the difference, with: UPDATE_GOLDEN=1 pytest tests/golden/chart
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.helm import CHART, NAMESPACE, PROMETHEUS, render, run_helm
from support.kubectl import Kubectl
from support.needs import ROOT
from support.wait import wait_until
from support.yamls import load

HERE = Path(__file__).parent
SETS = ("default", "openshift", "airgap", "ingress", "httproute", "everything")
GATEWAY_API = "gateway.networking.k8s.io/v1"
APIS = {"httproute": (GATEWAY_API,), "everything": (GATEWAY_API, PROMETHEUS)}
"""What the cluster knows beside Kubernetes' own kinds, as `helm template` is told."""
KINDS = [ROOT / "tests" / "data" / folder / "crds.yaml" for folder in ("monitoring", "gatewayapi")]
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


def values_of(name: str) -> dict[str, Any]:
    """Give a set of values."""
    return dict(load((HERE / "values" / f"{name}.yaml").read_text()))


def objects_of(name: str) -> list[dict[str, Any]]:
    """Give what the chart renders to, by kind and name."""
    objects = render(values_of(name), apis=APIS.get(name, ()))
    return sorted(objects, key=lambda item: (item["kind"], item["metadata"]["name"]))


def shown(objects: list[dict[str, Any]]) -> str:
    """Give them as text that a new version of the chart alone does not change: the kinds are those of crds/."""
    ours = [item for item in objects if item["kind"] != "CustomResourceDefinition"]
    text = yaml.safe_dump_all(ours, sort_keys=True, allow_unicode=True, width=120)
    versions = load((CHART / "Chart.yaml").read_text())
    for version in {versions["version"], versions["appVersion"]}:
        text = re.sub(rf"(?<![\w.]){re.escape(version)}(?![\w.])", "VERSION", text)
    return text


@pytest.mark.parametrize("name", SETS)
def test_renders_as_expected(name: str) -> None:
    """Every object, byte for byte the reviewed one."""
    expected = HERE / "expected" / f"{name}.yaml"
    text = shown(objects_of(name))
    if os.environ.get("UPDATE_GOLDEN"):
        expected.parent.mkdir(exist_ok=True)
        expected.write_text(text)
    assert text == expected.read_text()


def test_there_is_a_render_of_each_set() -> None:
    """Each set of values has its golden render, and no other file lies beside them."""
    for folder in ("values", "expected"):
        assert {path.name for path in (HERE / folder).iterdir()} == {f"{name}.yaml" for name in SETS}


@pytest.mark.parametrize("name", SETS)
def test_lints_clean(name: str) -> None:
    """`helm lint --strict` has nothing to say."""
    values = values_of(name)
    # It cannot be told what kinds a cluster knows, so it is asked without those that are not Kubernetes' own.
    values.pop("monitoring", None)
    values.get("gateway", {}).pop("httpRoute", None)
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


OFF = (None, False, 0, "", [], {})
LEFT_OUT = {
    "gateway.httpRoute.controller": "needs kinds of one implementation",
    "caBundle.secret": "instead of configMap",
    "gateway.insecureNoAuth": "lets everybody in",
    "gateway.batches.url": "instead of existingClaim",
    "gateway.tokenizers.configMap": "instead of existingClaim",
    "gateway.image.repository": "follows image.registry here",
    "gateway.image.digest": "wins over the tag",
    "gateway.podDisruptionBudget.minAvailable": "instead of maxUnavailable",
    "operator.podDisruptionBudget.maxUnavailable": "instead of minAvailable",
    "scorer.podDisruptionBudget.maxUnavailable": "instead of minAvailable",
    "redis.podDisruptionBudget.maxUnavailable": "instead of minAvailable",
    "queue.workerUrl": "for an external Redis",
    "redis.externalUrl": "instead of enabled",
    "redis.externalUrlSecret.name": "instead of enabled",
    "redis.sentinelAuth.existingSecret": "for an external Redis",
}
"""Values that stay off in `everything`, and why."""


def _off(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _off(value, (*path, key))
        elif value in OFF and key != "allowPrivilegeEscalation":
            yield (*path, key)


def _is_set(values: dict[str, Any], path: tuple[str, ...]) -> bool:
    found: Any = values
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found not in OFF


def test_everything_is_switched_on() -> None:
    """A value that is off by default is on in `everything`, or named above with the reason why it cannot be."""
    default = load((CHART / "values.yaml").read_text())
    off = {".".join(path) for path in _off(default) if not _is_set(values_of("everything"), path)}
    assert off - set(LEFT_OUT) == set(), "set them in tests/golden/chart/values/everything.yaml"
    assert set(LEFT_OUT) - off == set(), "no longer off, or no value of the chart"
