"""A new version of the chart brings another worker image: models follow in turn, and no request fails."""

import copy
from collections.abc import Iterator
from itertools import pairwise

import pytest

from support.cluster import NAMESPACE, TAG, VALUES, Cluster, Manifest, simulated
from support.needs import ROOT
from support.traffic import Traffic
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
NEXT = "e2e-next"
NAMES = ("first", "second", "third")


def _upgrade(capstan: Cluster, *, tag: str = "", mode: str = "Gradually") -> None:
    values = copy.deepcopy(VALUES)
    values["models"] = {"workerImage": {"tag": tag}, "adoptTemplateChanges": mode}
    values["operator"] = {"maxConcurrentRollouts": 1}
    flags = ("--namespace", NAMESPACE, "--wait", "--timeout", "240s")
    capstan.helm("upgrade", "--install", "capstan", str(ROOT / "helm" / "capstan"), *flags, values=values)


@pytest.fixture
def next_image(capstan: Cluster) -> Iterator[str]:
    """The worker's image under another tag; the chart is as it was in the end."""
    capstan.tag(f"docker.io/capstan/worker:{TAG}", f"docker.io/capstan/worker:{NEXT}")
    yield NEXT
    flags = ("--namespace", NAMESPACE, "--wait", "--timeout", "240s")
    capstan.helm("upgrade", "capstan", str(ROOT / "helm" / "capstan"), *flags, values=VALUES)


def _pods(capstan: Cluster, namespace: str) -> dict[str, Manifest]:
    """Give the pod of each model that has one and no more."""
    pods = capstan.list("pods", namespace, "app.kubernetes.io/name=llmmodel")
    models = [pod["metadata"]["labels"]["capstan.dev/model"] for pod in pods]
    return {name: pod for name, pod in zip(models, pods, strict=True) if models.count(name) == 1}


def _ready_since(pod: Manifest) -> str:
    found = (item for item in pod["status"]["conditions"] if (item["type"], item["status"]) == ("Ready", "True"))
    return str(next(found)["lastTransitionTime"])


def test_another_worker_image_is_taken_up_in_turn(
    capstan: Cluster, namespace: str, gateway: str, next_image: str
) -> None:
    """With OnSpecChange nothing is replaced, and each model says that an update waits; with Gradually one after the
    other follows, the oldest first, each new pod before the old one goes, and every request is answered."""
    for name in NAMES:
        served = {"servedName": f"{name}-{namespace}"}
        capstan.apply(namespace, simulated(name, model=served, resources={"gpus": 0}))
        capstan.wait_settled(name, namespace)
    before = {name: pod["metadata"]["uid"] for name, pod in _pods(capstan, namespace).items()}
    with Traffic(gateway, f"first-{namespace}", clients=2) as traffic:
        _upgrade(capstan, tag=next_image, mode="OnSpecChange")
        for name in NAMES:
            wait_until(
                lambda name=name: capstan.condition(name, namespace, "Progressing")["reason"] == "UpdatePending",
                what=f"the update of {name}",
            )
            assert capstan.condition(name, namespace, "Ready")["status"] == "True"
        assert {name: pod["metadata"]["uid"] for name, pod in _pods(capstan, namespace).items()} == before
        _upgrade(capstan, tag=next_image)

        def followed() -> dict[str, Manifest]:
            pods = _pods(capstan, namespace)
            assert set(pods) == set(NAMES)
            images = {pod["spec"]["containers"][0]["image"] for pod in pods.values()}
            assert images == {f"docker.io/capstan/worker:{NEXT}"}
            return pods

        pods = wait_until(followed, seconds=240, every=0.3, what="every model on the next image")
        for name in NAMES:
            capstan.wait_settled(name, namespace)
    assert traffic.report.failures == []
    for earlier, later in pairwise(NAMES):
        assert _ready_since(pods[earlier]) <= pods[later]["metadata"]["creationTimestamp"]
    revisions = capstan.list("controllerrevisions", namespace, "capstan.dev/model=first")
    assert sorted(revision["revision"] for revision in revisions) == [1, 2]
