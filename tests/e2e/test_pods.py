"""What is said of models' pods, on a real cluster: what is missing is told by name, what is there counts."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.cluster import NAMESPACE, VALUES, Cluster, install_chart, simulated
from support.needs import ROOT
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
TEMPLATE = "/templates/chat.jinja"
NULLS = {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}
AUTHORITY = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
SHOW = "import json, os; print(json.dumps([dict(os.environ), open('{path}').read(), os.getuid()]))"


def wait_for(capstan: Cluster, namespace: str, name: str, reason: str, kind: str = "Degraded") -> str:
    """Wait until a condition has a reason; give its message."""
    found = wait_until(
        lambda: (state := capstan.condition(name, namespace, kind))["reason"] == reason and state,
        seconds=180,
        what=f"{reason} of {name}",
    )
    return str(found["message"]) if found else ""


def made(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    """Give an object of the core API."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


def inside(capstan: Cluster, namespace: str, model: str, path: str) -> tuple[dict[str, str], str, int]:
    """Give the variables of a model's engine, what is in a file there, and as whom it runs."""
    (pod,) = [one for one in capstan.list("pods", namespace, f"capstan.dev/model={model}") if _runs(one)]
    name, program = pod["metadata"]["name"], SHOW.format(path=path)
    words = ("exec", "-n", namespace, name, "-c", "engine", "--", "/opt/capstan/bin/python", "-c", program)
    variables, content, user = json.loads(capstan.kubectl(*words))
    return variables, content, user


def _runs(pod: dict[str, Any]) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and pod["status"]["phase"] == "Running"


def test_what_pods_lack_is_told_by_name_until_it_is_there(capstan: Cluster, namespace: str) -> None:
    """An account, a Secret with variables and a ConfigMap with a file, one after the other; then the model serves."""
    shaped = simulated(
        "shaped",
        engine={
            "type": "Simulator",
            "envFrom": [{"prefix": "HUB_", "secretRef": {"name": "hub"}}],
            "files": [{"path": TEMPLATE, "configMapKeyRef": {"name": "templates", "key": "chat"}}],
        },
        pods={
            "labels": {"team": "search"},
            "annotations": {"example.com/note": "x"},
            "serviceAccountName": "models",
            "imagePullSecrets": [{"name": "registry"}],
        },
    )
    capstan.apply(namespace, shaped)
    assert "ServiceAccount 'models' does not exist" in wait_for(capstan, namespace, "shaped", "ServiceAccountNotFound")
    capstan.apply(namespace, made("ServiceAccount", "models"))
    assert "'templates', which does not exist" in wait_for(capstan, namespace, "shaped", "ConfigMapNotFound")
    capstan.apply(namespace, made("ConfigMap", "templates", data={"other": "x"}))
    assert "the key 'chat'" in wait_for(capstan, namespace, "shaped", "ConfigMapKeyNotFound")
    capstan.apply(namespace, made("ConfigMap", "templates", data={"chat": "{{ messages }}"}))
    assert '"hub" not found' in wait_for(capstan, namespace, "shaped", "ContainerConfigError")
    capstan.apply(namespace, made("Secret", "hub", stringData={"TOKEN": "hidden"}))
    capstan.wait_ready("shaped", namespace, seconds=120)
    (pod,) = capstan.list("pods", namespace, "team=search")
    assert pod["metadata"]["labels"]["capstan.dev/model"] == "shaped"
    assert pod["metadata"]["annotations"]["example.com/note"] == "x"
    assert pod["spec"]["serviceAccountName"] == "models"
    assert {"name": "registry"} in pod["spec"]["imagePullSecrets"]
    variables, content, _ = inside(capstan, namespace, "shaped", TEMPLATE)
    assert (variables["HUB_TOKEN"], content) == ("hidden", "{{ messages }}")


@pytest.fixture
def as_on_openshift(capstan: Cluster) -> Iterator[Cluster]:
    """The install without users and groups of its own, with variables and authorities for all models."""
    capstan.apply(NAMESPACE, made("ConfigMap", "company", data={"bundle.pem": AUTHORITY}))
    values = {
        **VALUES,
        "gateway": {**VALUES["gateway"], **NULLS},
        "operator": NULLS,
        "models": {**NULLS, "env": [{"name": "HF_ENDPOINT", "value": "https://hub"}], "podLabels": {"fleet": "one"}},
        "caBundle": {"configMap": "company", "key": "bundle.pem"},
    }
    flags = ("--namespace", NAMESPACE, "--wait", "--timeout", "240s")
    try:
        capstan.helm("upgrade", "capstan", str(ROOT / "helm" / "capstan"), *flags, values=values)
        yield capstan
    finally:
        install_chart(capstan)


def test_an_install_that_sets_no_users_runs_as_the_images_say(as_on_openshift: Cluster, namespace: str) -> None:
    """Null takes runAsUser, runAsGroup and fsGroup out of all pods, also under the restricted level; what the install
    says for all models is in their engines, and a bundle that a namespace lacks is told of."""
    capstan = as_on_openshift
    for workload in ("capstan-operator", "capstan-gateway"):
        found = capstan.get("deployment", workload, NAMESPACE)
        assert found is not None
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & found["spec"]["template"]["spec"]["securityContext"].keys()
    capstan.apply(namespace, simulated("plain", resources={"gpus": 0}))
    assert "'company', which does not exist" in wait_for(capstan, namespace, "plain", "ConfigMapNotFound")
    capstan.apply(namespace, made("ConfigMap", "company", data={"bundle.pem": AUTHORITY}))
    capstan.wait_ready("plain", namespace, seconds=180)
    (pod,) = capstan.list("pods", namespace, "fleet=one")
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & pod["spec"]["securityContext"].keys()
    variables, content, user = inside(capstan, namespace, "plain", "/etc/capstan/ca/ca.crt")
    assert (content, user) == (AUTHORITY, 10001)
    assert (variables["HF_ENDPOINT"], variables["SSL_CERT_FILE"]) == ("https://hub", "/etc/capstan/ca/ca.crt")


CLASS = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "DeviceClass",
    "metadata": {"name": "accelerator.example.com"},
    "spec": {"selectors": [{"cel": {"expression": "device.driver == 'driver.example.com'"}}]},
}
SLICE = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceSlice",
    "metadata": {"name": "capstan-e2e"},
    "spec": {
        "driver": "driver.example.com",
        "nodeName": "node-1",
        "pool": {"name": "node-1", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "a"}, {"name": "b"}],
    },
}
PAIR = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaimTemplate",
    "metadata": {"name": "pair"},
    "spec": {
        "spec": {
            "devices": {
                "requests": [
                    {"name": "gpu", "exactly": {"deviceClassName": "accelerator.example.com", "count": 2}},
                ]
            }
        }
    },
}


@pytest.fixture
def devices(capstan: Cluster) -> Iterator[None]:
    """A class of devices, of which the node says that it has two."""
    yield
    for kind, name in (("resourceslice", "capstan-e2e"), ("deviceclass", "accelerator.example.com")):
        capstan.kubectl("delete", kind, name, "--ignore-not-found")


@pytest.mark.usefixtures("devices")
def test_devices_are_claimed_for_each_pod(capstan: Cluster, namespace: str) -> None:
    """What is missing is told, in our words and then in the scheduler's, and then both devices are the pod's."""
    claims = [{"name": "gpus", "resourceClaimTemplateName": "pair", "request": "gpu"}]
    capstan.apply(namespace, simulated("claims", resources={"claims": claims}, parallelism={"tensor": 2}))
    assert "ResourceClaimTemplate 'pair'" in wait_for(capstan, namespace, "claims", "ResourceClaimNotFound")
    capstan.apply(namespace, PAIR)
    said = wait_for(capstan, namespace, "claims", "Unschedulable", "Available")
    assert "accelerator.example.com" in said
    for one in (CLASS, SLICE):
        capstan.kubectl("apply", "--server-side", "-f", "-", given=json.dumps(one))

    def allocated() -> list[Any]:
        found = capstan.list("resourceclaims", namespace)
        results = [(one.get("status") or {}).get("allocation", {}).get("devices", {}).get("results") for one in found]
        return [result for result in results if result]

    ((first, second),) = wait_until(allocated, seconds=120, what="devices for the pod") or [[None, None]]
    assert {first["device"], second["device"]} == {"a", "b"}
    (pod,) = capstan.list("pods", namespace, "capstan.dev/model=claims")
    assert pod["spec"]["containers"][0]["resources"]["claims"] == [{"name": "gpus", "request": "gpu"}]
