"""Profiles of the chart: models take them over, follow a change in turn, and lose nothing when one goes."""

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from support.cluster import NAMESPACE, VALUES, Cluster, Manifest, simulated
from support.needs import ROOT
from support.traffic import Traffic
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
NAMES = ("first", "second", "third")
TIER = "example.com/tier"


def _profile(tier: str) -> dict[str, Any]:
    return {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "example.com/models", "operator": "Exists"}],
        "perReplica": {"cpu": "20m", "memory": "256Mi"},
        "engines": {"Simulator": {"args": ["--context-window=4096", "--ttft-ms=900"]}},
        "env": [{"name": "TIER", "value": tier}],
        "pods": {"labels": {TIER: tier}},
    }


def _upgrade(capstan: Cluster, profiles: dict[str, Any] | None = None) -> None:
    values = copy.deepcopy(VALUES)
    values |= {"operator": {"maxConcurrentRollouts": 1}, "profiles": profiles or {}}
    flags = ("--namespace", NAMESPACE, "--wait", "--timeout", "240s")
    capstan.helm("upgrade", "--install", "capstan", str(ROOT / "helm" / "capstan"), *flags, values=values)


@pytest.fixture
def small(capstan: Cluster) -> Iterator[str]:
    """A profile of the chart; the chart is as it was in the end."""
    _upgrade(capstan, {"small": _profile("one")})
    yield "small"
    flags = ("--namespace", NAMESPACE, "--wait", "--timeout", "240s")
    capstan.helm("upgrade", "capstan", str(ROOT / "helm" / "capstan"), *flags, values=VALUES)


def _pods(capstan: Cluster, namespace: str) -> list[Manifest]:
    """Give the pods of models that are there to stay."""
    pods = capstan.list("pods", namespace, "app.kubernetes.io/name=llmmodel")
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def _ready_since(pod: Manifest) -> str:
    found = (one for one in pod["status"].get("conditions", ()) if (one["type"], one["status"]) == ("Ready", "True"))
    return str(next(found, {}).get("lastTransitionTime", ""))


def _uids(capstan: Cluster, namespace: str) -> set[str]:
    return {str(pod["metadata"]["uid"]) for pod in _pods(capstan, namespace)}


def _model(name: str, namespace: str, profile: str) -> Manifest:
    return simulated(name, model={"servedName": f"{name}-{namespace}"}, resources={"gpus": 0}, profile=profile)


def test_models_follow_their_profile_in_turn_and_outlive_it(
    capstan: Cluster, namespace: str, gateway: str, small: str
) -> None:
    """Pods are as the profile says where the manifest does not. A changed profile rolls out one model after the other,
    the oldest first, and every request is answered. When it goes, and while the operator begins anew without it, all
    that serves stays and says what is missing, and a new model is refused; when it comes back, nothing is replaced."""
    for name in NAMES:
        capstan.apply(namespace, _model(name, namespace, small))
        capstan.wait_settled(name, namespace)
    for pod in _pods(capstan, namespace):
        container = pod["spec"]["containers"][0]
        assert pod["metadata"]["labels"][TIER] == "one"
        assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
        assert container["resources"]["requests"] == {"cpu": "20m", "memory": "256Mi"}
        assert {"name": "TIER", "value": "one"} in container["env"]
        # The manifest says --ttft-ms.
        assert "--context-window=4096" in container["args"]
        assert "--ttft-ms=900" not in container["args"]
    with Traffic(gateway, f"first-{namespace}", clients=2) as traffic:
        _upgrade(capstan, {small: _profile("two")})
        on_their_way = set()

        def followed() -> dict[str, Manifest]:
            pods = _pods(capstan, namespace)
            on_their_way.add(len([pod for pod in pods if not _ready_since(pod)]))
            found = {pod["metadata"]["labels"]["capstan.dev/model"]: pod for pod in pods}
            assert len(found) == len(pods) == len(NAMES)
            assert all(pod["metadata"]["labels"][TIER] == "two" for pod in pods)
            return found

        pods = wait_until(followed, seconds=180, every=0.3, what="every model on the changed profile")
        for name in NAMES:
            capstan.wait_settled(name, namespace)
        assert on_their_way <= {0, 1}, "the budget is one model at a time"
        for earlier, later in pairwise(NAMES):
            assert _ready_since(pods[earlier]) <= pods[later]["metadata"]["creationTimestamp"]
        before = _uids(capstan, namespace)

        _upgrade(capstan)
        for restarted in (False, True):
            if restarted:
                capstan.kubectl("rollout", "restart", "deployment/capstan-operator", "-n", NAMESPACE)
                capstan.kubectl("rollout", "status", "deployment/capstan-operator", "-n", NAMESPACE, "--timeout=120s")
            new = f"new-{int(restarted)}"
            capstan.apply(namespace, _model(new, namespace, small))
            for name in (*NAMES, new):

                def says(name: str = name) -> bool:
                    told = capstan.condition(name, namespace, "Accepted")
                    return (told["status"], told["reason"]) == ("False", "Invalid") and f"'{small}'" in told["message"]

                wait_until(says, seconds=120, what=f"what is wrong with {name}")
            assert _uids(capstan, namespace) == before
            assert capstan.get("deployment", f"{new}-model", namespace) is None

        _upgrade(capstan, {small: _profile("two")})
        for name in (*NAMES, "new-0", "new-1"):
            capstan.wait_settled(name, namespace)
        assert before <= _uids(capstan, namespace)
    assert traffic.report.failures == []
