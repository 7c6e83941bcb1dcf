"""What a rollout that cannot go on says, and from when on it needs a person."""

from datetime import timedelta
from typing import Any

import pytest

from capstan_operator.api.llmmodel import RolloutStrategy
from capstan_operator.desired.model import build_model
from capstan_operator.desired.rollout import (
    BEGAN_ANNOTATION,
    CHOSEN,
    NO_ROOM,
    Policy,
    decide_rollout,
    rollout_annotations,
    strategy,
    waits_for_claim,
)
from capstan_operator.desired.snapshot import PodHash
from capstan_operator.desired.types import Obstacle, Rollout, RolloutMode
from capstan_operator.resources.resource import Manifest
from support.plainmodels import (
    NOW,
    SETTINGS,
    deployment_of,
    gpu_pod,
    hash_of,
    make_model,
    make_pod,
    snapshot_of,
    unschedulable_pod,
)

GPU = "nvidia.com/gpu"
MODEL = make_model(resources={"gpus": 1})
HASH = PodHash(hash_of(MODEL))
LACKS = f"0/1 nodes are available: 1 Insufficient {GPU}."
CLAIM = "0/2 nodes are available: 1 node(s) had volume node affinity conflict."
BEGAN = "2026-05-04T11:55:00Z"
"""The patience of 300 seconds after which is NOW."""


def _decide(*pods: Manifest, replicas: int = 2, later: float = 0.0, **options: Any) -> Rollout:
    strategy = options.pop("strategy", RolloutStrategy.AUTO)
    policy = Policy(strategy=strategy, patience=300, replicas=replicas, gpu_resource=GPU, **options)
    live = deployment_of(MODEL)
    return decide_rollout(live, HASH, pods=pods, policy=policy, now=NOW + timedelta(seconds=later))


def _waits(since: str = BEGAN, says: str = LACKS) -> Manifest:
    return unschedulable_pod("new", HASH, says, since=since)


OLD = gpu_pod("old", "old")
SAYS = f"there is no {GPU} for one more replica, and the present ones serve on"
WAY_OUT = "set `spec.rollout.strategy` to InPlace to replace a replica before the new one is ready"


def test_until_the_patience_ends_it_is_said_what_comes_then() -> None:
    """A person is called, or an old pod goes, at the end and not a moment before."""
    then = "if it lasts, pods are replaced in place"
    early = Obstacle("NoRoomForSurge", f"{SAYS}; {then}; the cluster says: {LACKS}", False, 0.5)
    assert _decide(OLD, OLD, _waits(), later=-0.5) == Rollout(RolloutMode.SURGE, obstacle=early)
    assert _decide(OLD, OLD, _waits()) == Rollout(RolloutMode.IN_PLACE, NO_ROOM)


def test_who_may_not_replace_is_told_how_to() -> None:
    """A single replica, or one of a user that wants a surge: it waits for a person."""
    message = f"{SAYS}; free a GPU, or {WAY_OUT}; the cluster says: {LACKS}"
    for options in ({"replicas": 1}, {"strategy": RolloutStrategy.SURGE}):
        early = _decide(OLD, OLD, _waits(), later=-0.5, **options)
        assert early == Rollout(RolloutMode.SURGE, obstacle=Obstacle("NoRoomForSurge", message, False, 0.5))
        late = _decide(OLD, OLD, _waits(), **options)
        assert late == Rollout(RolloutMode.SURGE, obstacle=Obstacle("NoRoomForSurge", message, True))


def test_a_deployment_that_knows_no_rolling_update_is_not_in_place() -> None:
    """Somebody may have written another strategy over ours."""
    live = deployment_of(MODEL)
    policy = Policy(strategy=RolloutStrategy.AUTO, patience=300, replicas=2, gpu_resource=GPU)
    for written in ({"type": "Recreate"}, None):
        live["spec"] = {**live["spec"], "strategy": written}
        assert decide_rollout(live, HASH, pods=[OLD], policy=policy, now=NOW) == Rollout(RolloutMode.SURGE)


def test_a_rollout_that_goes_in_place_says_so_to_its_end() -> None:
    """The reason stays the same when there is room again."""
    live = deployment_of(MODEL)
    live["spec"] = {**live["spec"], "strategy": strategy(RolloutMode.IN_PLACE)}
    policy = Policy(strategy=RolloutStrategy.AUTO, patience=300, replicas=2, gpu_resource=GPU)
    found = decide_rollout(live, HASH, pods=[OLD], policy=policy, now=NOW)
    assert found == Rollout(RolloutMode.IN_PLACE, NO_ROOM)


def test_a_surge_adds_a_pod_and_in_place_takes_one_away() -> None:
    """One at a time, and never both."""
    assert strategy(RolloutMode.SURGE)["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert strategy(RolloutMode.IN_PLACE)["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_deployment_that_does_not_say_when_its_template_came_is_left_so() -> None:
    """An earlier release wrote no time, and nobody knows it any more."""
    assert rollout_annotations(deployment_of(MODEL), HASH, NOW) == {}
    assert rollout_annotations(None, HASH, NOW) == {}
    other = PodHash("other")
    assert rollout_annotations(deployment_of(MODEL), other, NOW) == {BEGAN_ANNOTATION: "2026-05-04T12:00:00Z"}
    assert rollout_annotations(deployment_of(MODEL), other, None) == {}


def test_replicas_that_an_autoscaler_made_count() -> None:
    """Of several an old one may go, whatever number the spec began with."""
    model = make_model(resources={"gpus": 1}, scaling={"min": 1, "max": 3}, replicas=1)
    waits = unschedulable_pod("new", hash_of(model), LACKS, since=BEGAN)
    for replicas, mode in ((2, RolloutMode.IN_PLACE), (1, RolloutMode.SURGE)):
        live = deployment_of(model)
        live["spec"] = {**live["spec"], "replicas": replicas}
        rollout = build_model(model, snapshot_of(model, live, pods=(OLD, OLD, waits), now=NOW), SETTINGS).rollout
        assert rollout is not None
        assert rollout.mode is mode


def test_in_place_by_choice_needs_no_reason() -> None:
    """The user has said so."""
    assert _decide(strategy=RolloutStrategy.IN_PLACE) == Rollout(RolloutMode.IN_PLACE, CHOSEN)


def _on_node(node: str | None, *, ready: str = "False", prepared: str = "False", since: str = BEGAN) -> Manifest:
    conditions = [
        {"type": "Ready", "status": ready},
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": since},
        {"type": "PodReadyToStartContainers", "status": prepared},
    ]
    return make_pod("new", HASH, spec={"nodeName": node}, conditions=conditions)


def _mute() -> Manifest:
    pod = _waits()
    del pod["status"]["conditions"][0]["message"]
    return pod


@pytest.mark.parametrize(
    ("pod", "waits"),
    [
        (_waits(says=CLAIM), True),
        (_waits(says="0/2 nodes are available: 1 node has a pod with this ReadWriteOncePod claim."), True),
        (_waits(), False),
        (_mute(), False),
        (_on_node("node-2"), True),
        (_on_node("node-1"), False),
        (_on_node("node-2", ready="True"), False),
        (_on_node("node-2", prepared="True"), False),
        (_on_node(None), False),
        (_on_node(""), False),
    ],
)
def test_a_pod_waits_for_a_claim_that_another_node_has(pod: Manifest, waits: bool) -> None:
    """The scheduler says so, or its node cannot prepare it while the pods with the claim are on another one."""
    assert waits_for_claim(pod, {"node-1"}) is waits


def _claim(*pods: Manifest, later: float = 0.0) -> Obstacle | None:
    rollout = _decide(*pods, replicas=1, later=later, exclusive_claim="weights")
    assert rollout.mode is RolloutMode.SURGE
    return rollout.obstacle


IN_USE = (
    "the claim 'weights' can be attached to one node at a time, and the present replicas, which serve on, hold it on"
    f" another one; {WAY_OUT}"
)


def test_a_claim_in_use_needs_a_person_when_the_longest_wait_has_outlasted_the_patience() -> None:
    """Until then it may pass, and is looked at again at that moment."""
    soon = _on_node("node-2", since="2026-05-04T11:59:00Z")
    for pods in ((_on_node("node-2"), soon), (soon, _on_node("node-2"))):
        assert _claim(OLD, *pods) == Obstacle("ClaimInUse", IN_USE, True)
        assert _claim(OLD, *pods, later=-0.5) == Obstacle("ClaimInUse", IN_USE, False, 0.5)
    assert _claim(OLD, soon) == Obstacle("ClaimInUse", IN_USE, False, 240.0)


def test_only_new_pods_wait_for_a_claim() -> None:
    """Those that are ready, that go, or that are old have no part in it."""
    waits_old = unschedulable_pod("old", "old", CLAIM)
    up, failed = _on_node("node-1", ready="True"), {**_on_node("node-2")}
    failed["status"] = {**failed["status"], "phase": "Failed"}
    for pods in ((up,), (up, waits_old), (failed,), (failed, up)):
        assert _claim(OLD, *pods) is None
    assert _decide(OLD, _on_node("node-2"), replicas=1).obstacle is None
