"""Templates that cannot work, each in its own way: the pods that serve are not touched, and the status says why."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from support.cluster import Cluster, Manifest, simulated
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


class Bad(NamedTuple):
    """A change that makes the pods of a model impossible, and what the model then says of itself."""

    change: dict[str, Any]
    condition: str
    reason: str


def _engine(**fields: Any) -> dict[str, Any]:
    return {"engine": {"type": "Simulator", **fields}}


def _pod(**fields: Any) -> dict[str, Any]:
    return {"template": {"spec": fields}}


DONGLE = {"example.com/dongle": "1"}
SECRET = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "key"}}}
BAD = {
    "host-network": Bad(_pod(hostNetwork=True), "Degraded", "ApplyRefused"),
    "root": Bad(_pod(securityContext={"runAsNonRoot": False}), "Degraded", "PodsRefused"),
    "node-selector": Bad({"resources": {"gpus": 0, "nodeSelector": {"disk": "typo"}}}, "Ready", "Unschedulable"),
    "image": Bad(_engine(image="docker.io/capstan/absent:1"), "Degraded", "ImagePullFailed"),
    "arguments": Bad(_engine(args=["--no-such-option"]), "Ready", "CrashLoop"),
    "secret": Bad(_engine(env=[SECRET]), "Degraded", "ContainerConfigError"),
    "volume": Bad(
        _pod(
            volumes=[{"name": "absent", "configMap": {"name": "absent"}}],
            containers=[{"name": "engine", "volumeMounts": [{"name": "absent", "mountPath": "/absent"}]}],
        ),
        "Degraded",
        "ConfigMapNotFound",
    ),
    "quota": Bad(
        _pod(containers=[{"name": "engine", "resources": {"requests": DONGLE, "limits": DONGLE}}]),
        "Degraded",
        "PodsRefused",
    ),
    "memory": Bad({"resources": {"gpus": 0, "memory": "900Gi"}}, "Ready", "Unschedulable"),
    "priority": Bad({"resources": {"gpus": 0, "priorityClassName": "absent"}}, "Degraded", "PodsRefused"),
    "runtime": Bad({"resources": {"gpus": 0, "runtimeClassName": "absent"}}, "Degraded", "PodsRefused"),
    "probe": Bad(
        _pod(
            containers=[
                {"name": "engine", "readinessProbe": {"httpGet": {"path": "/never", "port": 8001}, "periodSeconds": 1}}
            ]
        ),
        "Degraded",
        "RolloutDeadlineExceeded",
    ),
    "gpus": Bad({"resources": {"gpus": 64}}, "Degraded", "NoRoomForSurge"),
}
PAIRS = ("root", "arguments", "quota", "memory", "gpus")
"""Those that are tried with two replicas as well: of several, one might be thought to be dispensable."""


def _models() -> dict[str, tuple[str, int]]:
    """Give the kind of change and the replicas by the name of the model."""
    return {f"{kind}-1": (kind, 1) for kind in BAD} | {f"{kind}-2": (kind, 2) for kind in PAIRS}


def _manifest(name: str, namespace: str, replicas: int, **change: Any) -> Manifest:
    kind = name.rpartition("-")[0]
    # The harshest setting there is: no patience at all.
    rollout = {"strategy": "Auto", "patienceSeconds": 0, "progressDeadlineSeconds": 15}
    spec = {
        "resources": {"gpus": 1 if kind == "gpus" else 0},
        "replicas": replicas,
        "rollout": rollout,
        "model": {"servedName": f"{name}-{namespace}"},
        "serving": {"timeouts": {"totalSeconds": 30}},
        **change,
    }
    return simulated(name, **spec)


def _ready_pods(capstan: Cluster, namespace: str) -> dict[str, tuple[str, str]]:
    """Give of each ready pod, by its uid, the model and since when it has been ready without a break."""
    found = {}
    for pod in capstan.list("pods", namespace):
        since = [
            item["lastTransitionTime"]
            for item in (pod["status"].get("conditions") or [])
            if (item["type"], item["status"]) == ("Ready", "True")
        ]
        if since and "deletionTimestamp" not in pod["metadata"]:
            found[pod["metadata"]["uid"]] = (pod["metadata"]["labels"]["capstan.dev/model"], since[0])
    return found


class Asker:
    """Asks every model in turn, and keeps what failed."""

    def __init__(self, url: str, names: list[str]) -> None:
        self.failures: list[str] = []
        self.rounds = 0
        self._url = url
        self._names = names
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asker")

    @contextmanager
    def asking(self) -> Iterator["Asker"]:
        """Ask until the block ends."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join(timeout=120)

    def wait_for_rounds(self, further: int) -> None:
        """Wait until every model was asked so many more times."""
        goal = self.rounds + further
        wait_until(lambda: self.rounds >= goal, seconds=180, what="further answers")

    def _run(self) -> None:
        while not self._stop.is_set():
            for name in self._names:
                self._ask(name)
                self._stop.wait(0.02)
            self.rounds += 1

    def _ask(self, name: str) -> None:
        body = {"model": name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self._url}/v1/chat/completions", json.dumps(body).encode(), headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                json.load(answer)
        except OSError as error:
            self.failures.append(f"{name}: {error}")


def test_no_bad_template_takes_a_healthy_pod(capstan: Cluster, namespace: str, gateway: str) -> None:
    """Of every kind of bad template only the new pod suffers: the same pods stay ready without a break and answer
    throughout, the status says why, and the good template again needs no new pod."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "dongles"}}
    capstan.apply(namespace, {**quota, "spec": {"hard": {"requests.example.com/dongle": "0"}}})
    models = _models()
    good = [_manifest(name, namespace, replicas) for name, (_, replicas) in models.items()]
    capstan.apply(namespace, *good)
    for name in models:
        capstan.wait_settled(name, namespace, seconds=240)
    healthy = _ready_pods(capstan, namespace)
    assert len(healthy) == sum(replicas for _, replicas in models.values())

    with Asker(gateway, [f"{name}-{namespace}" for name in models]).asking() as asker:
        asker.wait_for_rounds(1)
        bad = [_manifest(name, namespace, replicas, **BAD[kind].change) for name, (kind, replicas) in models.items()]
        capstan.apply(namespace, *bad)
        for name, (kind, _) in models.items():
            _wait_for_reason(capstan, name, namespace, BAD[kind])
        asker.wait_for_rounds(3)
        now = _ready_pods(capstan, namespace)
        assert {uid: now.get(uid) for uid in healthy} == healthy
        capstan.apply(namespace, *good)
        for name in models:
            capstan.wait_settled(name, namespace)
        asker.wait_for_rounds(1)
        assert _ready_pods(capstan, namespace) == healthy
    assert asker.failures == []


def _wait_for_reason(capstan: Cluster, name: str, namespace: str, expected: Bad) -> None:
    def says() -> bool:
        found = capstan.condition(name, namespace, expected.condition)
        assert (found["reason"], name) == (expected.reason, name), found
        return True

    wait_until(says, seconds=180, every=0.3, what=f"{expected.reason} of {name}")
