"""How far a model is with a change of settings, and where there is room for it."""

from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.desired.adoption import RolloutState, decide_turns, rollout_state
from capstan_operator.desired.model import build_model
from capstan_operator.desired.rollout import BEGAN_ANNOTATION
from capstan_operator.desired.snapshot import NodeCapacity
from capstan_operator.desired.template_changes import CAUSE_ANNOTATION, Cause
from capstan_operator.resources.resource import Manifest, ObjectKey
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
BEGAN = "2026-05-04T11:00:00Z"
NO_GPU = f"0/1 nodes are available: 1 Insufficient {GPU}."


def _state(*pods: Manifest, available: str, since: str, past: bool = True, **spec: Any) -> RolloutState:
    model = make_model(**spec)
    reason = "ProgressDeadlineExceeded" if past else "ReplicaSetUpdated"
    conditions = [
        {"type": "Progressing", "status": str(not past), "reason": reason},
        {"type": "Available", "status": available, "lastTransitionTime": since},
    ]
    live = deployment_of(model, conditions=conditions)
    live["metadata"]["annotations"] |= {CAUSE_ANNOTATION: str(Cause.SETTINGS), BEGAN_ANNOTATION: BEGAN}
    snapshot = snapshot_of(model, live, pods=pods, now=NOW)
    state = rollout_state(model, build_model(model, snapshot, SETTINGS), snapshot)
    assert state
    return state


@pytest.mark.parametrize(
    ("ready", "available", "since", "past", "keeps"),
    [
        (False, "False", "2026-05-04T09:00:00Z", True, False),
        (False, "False", BEGAN, True, False),
        (False, "False", "2026-05-04T09:00:00Z", False, True),
        (False, "False", "2026-05-04T11:30:00Z", True, True),
        (False, "True", "2026-05-04T09:00:00Z", True, True),
        (True, "False", "2026-05-04T09:00:00Z", True, True),
    ],
)
def test_place_of_one_that_served_nobody_before_ends_with_its_deadline(
    ready: bool, available: str, since: str, past: bool, keeps: bool
) -> None:
    """Whoever served when it began, or is not past its deadline, keeps its place."""
    state = _state(make_pod("old", "old", ready=ready), available=available, since=since, past=past)
    assert (state.stuck, state.has_place) == (past, keeps)


def test_place_of_one_that_only_lacks_room_ends_when_a_person_is_called() -> None:
    """No GPU for one more pod is no sign that the change does not work."""
    asks: dict[str, Any] = {"resources": {"gpus": 1}, "replicas": 1}
    for since, keeps in (("2026-05-04T11:50:00Z", False), ("2026-05-04T11:59:00Z", True)):
        waiting = unschedulable_pod("new", hash_of(make_model(**asks)), NO_GPU, since=since)
        state = _state(gpu_pod("old", "old"), waiting, available="True", since=BEGAN, past=False, **asks)
        assert (state.stuck, state.has_place) == (not keeps, keeps)


def test_free_gpus_of_another_pool_are_no_room() -> None:
    """A node without the labels that a model asks for has no room for it, and keeps it for those that may use it."""
    nodes = (NodeCapacity("a", {GPU: 0}, {"pool": "a"}), NodeCapacity("b", {GPU: 1}, {"pool": "b"}))
    picky = _state(available="True", since=BEGAN, resources={"gpus": 1, "nodeSelector": {"pool": "a"}})
    assert picky.node_selector == (("pool", "a"),)
    waits = replace(picky, rolls=False, adopts=False, waits=True, stuck=False, excused=False)
    other = replace(waits, key=ObjectKey("team", "other"), created="later", node_selector=())
    assert decide_turns([waits, other], nodes=nodes, places=2) == {other.key}
