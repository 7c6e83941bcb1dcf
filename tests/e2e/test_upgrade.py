"""The upgrade from the release before this one, and back again, while clients ask."""

import base64
import copy
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import previous
from support.cluster import (
    NAMESPACE,
    TAG,
    VALUES,
    Cluster,
    Manifest,
    client_pod,
    install_chart,
    make_namespace,
    simulated,
)
from support.needs import ROOT
from support.traffic import Traffic
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

MODELS = "upgraded"
HOSTED_API = "hosted-api"
NEW_CHART = ROOT / "helm" / "capstan"
FLAGS = ("--namespace", NAMESPACE, "--wait", "--timeout", "180s")


def _values(*, tag: str, worker: str) -> Manifest:
    values = copy.deepcopy(VALUES)
    values["image"]["tag"] = tag
    values["models"] = {"workerImage": {"tag": worker}}
    return values


def _hosted_api() -> tuple[Manifest, Manifest]:
    """A server that is not Capstan's business, and the Service in front of it."""
    pod = client_pod(HOSTED_API, "")
    (container,) = pod["spec"]["containers"]
    container |= {
        "image": f"docker.io/capstan/worker:{previous.TAG}",
        "command": ["capstan-worker"],
        "args": ["simulator", "--host", "0.0.0.0", "--port", "8000", "--worker-port", "8001", "--model", "remote"],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8001}, "periodSeconds": 1},
    }
    port = {"port": 8000, "targetPort": 8000}
    spec = {"selector": pod["metadata"]["labels"], "ports": [port]}
    return pod, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": HOSTED_API}, "spec": spec}


def _hosted(name: str) -> Manifest:
    """A hosted model as people had them: with a key in a Secret that says nothing of Capstan."""
    external = {
        "provider": "OpenAICompatible",
        "url": f"http://{HOSTED_API}.{MODELS}.svc:8000/v1",
        "model": "remote",
        "secretRef": {"name": "hosted-key", "key": "key"},
    }
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "LLMModel",
        "metadata": {"name": name},
        "spec": {"model": {"servedName": f"{name}-{MODELS}"}, "external": external},
    }


def _simulated(name: str, replicas: int) -> Manifest:
    return simulated(name, model={"servedName": f"{name}-{MODELS}"}, replicas=replicas)


@pytest.fixture(scope="module")
def old_tree(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The previous release, with its images in the node."""
    tree = previous.unpack(tmp_path_factory.mktemp("previous"))
    previous.build_images(cluster, tree)
    return tree


@pytest.fixture
def before(cluster: Cluster, old_tree: Path) -> Iterator[Cluster]:
    """The previous release installed, with three models that serve; afterwards this release is installed."""
    _uninstall(cluster)
    make_namespace(cluster, NAMESPACE)
    make_namespace(cluster, MODELS)
    chart = str(old_tree / "helm" / "capstan")
    values = _values(tag=previous.TAG, worker=previous.TAG)
    cluster.helm("install", "capstan", chart, *FLAGS, values=values)
    key = {"key": base64.b64encode(b"sk-of-a-hosted-api").decode()}
    cluster.apply(
        MODELS,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hosted-key"}, "data": key},
        _simulated("many", 2),
        _simulated("single", 1),
        _hosted("hosted"),
        *_hosted_api(),
    )
    cluster.wait_settled("many", MODELS)
    cluster.wait_settled("single", MODELS)
    cluster.wait_ready("hosted", MODELS)
    yield cluster
    cluster.kubectl("delete", "llmmodels", "--all", "-n", MODELS)
    cluster.kubectl("delete", "pod", HOSTED_API, "-n", MODELS, "--wait=false")
    install_chart(cluster)
    cluster.kubectl("delete", "namespace", MODELS, "--wait=false")


def _uninstall(cluster: Cluster) -> None:
    if "capstan" in cluster.helm("list", "-n", NAMESPACE, "-q").split():
        cluster.helm("uninstall", "capstan", "-n", NAMESPACE, "--wait", "--timeout", "120s")


def _pods(cluster: Cluster) -> dict[str, tuple[str, int]]:
    """Every pod of the models: its image, and how often a container of it was started again; by uid."""
    found = {}
    for pod in cluster.list("pods", MODELS, "app.kubernetes.io/name=llmmodel"):
        statuses = pod["status"].get("containerStatuses") or []
        restarts = sum(status["restartCount"] for status in statuses)
        found[pod["metadata"]["uid"]] = (pod["spec"]["containers"][0]["image"], restarts)
    return found


def _served(cluster: Cluster) -> None:
    for name in ("many", "single", "hosted"):
        cluster.wait_ready(name, MODELS, seconds=120)


def test_upgrade_and_rollback(before: Cluster, gateway: str) -> None:
    """No request fails while the chart is upgraded, rolled back and upgraded again; pods of models are replaced only
    when the image that they run is to be another one, and then all of them are in the end."""
    cluster = before
    pods = _pods(cluster)
    assert len(pods) == 3
    with ExitStack() as stack:
        loads = [
            stack.enter_context(Traffic(gateway, f"{name}-{MODELS}", clients=2))
            for name in ("many", "single", "hosted")
        ]

        def go_on() -> None:
            for load in loads:
                load.wait_for(10)
                assert load.report.failures == []

        pinned = _values(tag=TAG, worker=previous.TAG)
        cluster.helm("upgrade", "capstan", str(NEW_CHART), *FLAGS, values=pinned)
        _served(cluster)
        go_on()
        assert _pods(cluster) == pods

        cluster.helm("rollback", "capstan", "1", *FLAGS)
        _served(cluster)
        go_on()
        assert _pods(cluster) == pods

        cluster.helm("upgrade", "capstan", str(NEW_CHART), *FLAGS, values=_values(tag=TAG, worker=TAG))

        def replaced() -> bool:
            now = _pods(cluster)
            assert len(now) == 3, now
            assert not now.keys() & pods.keys()
            assert {image for image, _ in now.values()} == {f"docker.io/capstan/worker:{TAG}"}
            return True

        wait_until(replaced, seconds=180, every=0.5, what="every pod on the new image")
        for name in ("many", "single"):
            cluster.wait_settled(name, MODELS)
        _served(cluster)
        go_on()
    for load in loads:
        print(f"{load.report.answered} answered, slowest {load.report.slowest:.2f} s")
        assert load.report.failures == []
