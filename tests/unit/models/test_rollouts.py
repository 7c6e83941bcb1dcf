"""What a reconcile makes of a rollout in steps: what it sees of it, and what it does with what it cannot see."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from capstan_contract.names import CANARY, TRACK_LABEL
from capstan_operator.api.kinds import Model
from capstan_operator.desired.model import build_model
from capstan_operator.desired.rollouts.machine import Seen
from capstan_operator.desired.rollouts.memory import read_memory
from capstan_operator.desired.rollouts.objects import TRY_ANNOTATION, job_name
from capstan_operator.desired.rollouts.revisions import revision_of
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.types import Action, DesiredModel
from capstan_operator.models.rollouts import NoCounts, Rollouts
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.status.rollouts import Tracks, see, sort_pods
from support.plainmodels import (
    NOW,
    SETTINGS,
    deployment_of,
    hash_of,
    make_model,
    make_pod,
    snapshot_of,
    unschedulable_pod,
)

STABLE = "0" * 16
BEGAN = "2026-05-04T11:00:00Z"
TRIED = 1_777_892_400
ROLLOUT = {"steps": [{"weight": 10}], "gate": {"suites": [{"configMap": "suite"}]}}


def _model(state: str, **memory: Any) -> Model:
    """Give a model at this state of a rollout of what its spec says."""
    spec: dict[str, Any] = {"engine": {"type": "Simulator"}, "replicas": 3, "rollout": ROLLOUT}
    found = make_model(**spec).spec
    assert found is not None
    said = {"state": state, "stable": STABLE, "candidate": revision_of(found), "generation": 1, "attempt": 1}
    return make_model(**spec, status={"rollout": {**said, "began": BEGAN, "since": BEGAN, "weight": 10, **memory}})


def _canary(model: Model) -> Manifest:
    memory = read_memory(model.status)
    assert memory is not None
    live = deployment_of(model)
    labels = {**live["metadata"]["labels"], TRACK_LABEL: CANARY}
    annotations = {TRY_ANNOTATION: f"{memory.candidate}-{TRIED}"}
    return {
        **live,
        "metadata": {**live["metadata"], "name": "llama-canary", "labels": labels, "annotations": annotations},
    }


def _seen(model: Model, own: Snapshot, desired: DesiredModel) -> Seen:
    assert model.spec is not None
    pods = sort_pods(own.pods[model.key])
    return see(
        model, model.spec, own, pods, memory=read_memory(model.status), desired=desired, tracks=Tracks(),
        settings=SETTINGS, now=NOW,
    )  # fmt: skip


def test_rollout_is_not_forgotten_where_revisions_cannot_be_listed() -> None:
    """A right that is missing for a moment neither replaces the stable pods by what is tried, nor takes the canary."""
    model = _model("Step")
    own = snapshot_of(model, deployment_of(model), _canary(model), revisions=None)
    rollouts = Rollouts(SETTINGS, split=lambda _: None, counts=NoCounts())
    turn, own = rollouts.begin(model, own)
    desired = build_model(model, own, SETTINGS)
    wanted = {one.manifest["metadata"]["name"]: one.action for one in rollouts.beside(turn, own, desired, NOW)}
    assert wanted["llama-canary"] is Action.HOLD
    assert rollouts.decide(turn, own, desired, NOW).memory == read_memory(model.status)


@pytest.mark.parametrize("made_room", [None, True])
def test_promotion_is_over_although_a_replica_has_made_room(made_room: bool | None) -> None:
    """As long as a replica has made room for the canary, all pods are those without it: else promotion never ends."""
    model = _model("Promoting", replacesOne=made_room)
    done = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    live = deployment_of(model, conditions=[done])
    live = {**live, "spec": {**live["spec"], "replicas": 2}}
    pods = tuple(make_pod(f"p{number}", hash_of(model), ready=True) for number in range(2))
    own = snapshot_of(model, live, pods=pods, revisions={model.key: ()})
    assert _seen(model, own, build_model(model, own, SETTINGS)).rolled_out is bool(made_room)


def test_new_stable_pod_without_room_is_seen() -> None:
    """While pods are replaced it is known since when one of the new ones finds no node."""
    model = _model("Promoting")
    pods = (unschedulable_pod("p", hash_of(model), "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),)
    own = snapshot_of(model, deployment_of(model), pods=pods, revisions={model.key: ()})
    desired = build_model(model, own, SETTINGS)
    assert _seen(model, own, desired).surge_lacks_room_since == NOW - timedelta(minutes=1)
    assert _seen(model, replace(own, pods={model.key: ()}), desired).surge_lacks_room_since is None


@pytest.mark.parametrize(
    ("state", "gates", "stays"),
    [
        ("Evaluating", (), True),
        ("Paused", (), True),
        ("RolledBack", (), False),
        ("RolledBack", ({"name": "suite/s", "outcome": "Fail"},), True),
    ],
)
def test_job_that_nobody_waits_for_goes(state: str, gates: tuple[dict[str, str], ...], stays: bool) -> None:
    """A rollout that is given up asks no pods any more; a Job that has said something is left for people to read."""
    model = _model(state, gates=gates)
    memory = read_memory(model.status)
    assert memory is not None
    job = {"kind": "Job", "metadata": {"name": job_name("llama", f"{memory.candidate}-{TRIED}"), "uid": "j"}}
    own = snapshot_of(model, deployment_of(model), _canary(model), job, revisions={model.key: ()})
    rollouts = Rollouts(SETTINGS, split=lambda _: None, counts=NoCounts())
    turn, own = rollouts.begin(model, own)
    wanted = rollouts.beside(turn, own, build_model(model, own, SETTINGS), NOW)
    assert any(one.manifest["kind"] == "Job" for one in wanted) is stays


def test_job_whose_pod_a_node_threw_out_goes_on() -> None:
    """A pod that was told to end because of its node says nothing of the candidate: the Job makes another one."""
    model = _model("Evaluating")
    memory = read_memory(model.status)
    assert memory is not None
    job = {"kind": "Job", "metadata": {"name": job_name("llama", f"{memory.candidate}-{TRIED}"), "uid": "j"}}
    said = '{"version":1,"outcome":null,"reason":"Interrupted","error":"it was told to end"}'
    pod = make_pod("p", "", containerStatuses=[{"name": "gate", "state": {"terminated": {"message": said}}}])
    labels = {**pod["metadata"]["labels"], "app.kubernetes.io/component": "evaluation"}
    pod["metadata"] |= {"labels": labels, "ownerReferences": [{"kind": "Job", "uid": "j"}]}
    own = snapshot_of(model, deployment_of(model), job, pods=(pod,), revisions={model.key: ()})
    desired = build_model(model, own, SETTINGS)
    first = _seen(model, own, desired).job
    pod["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True"})
    after = _seen(model, own, desired).job
    assert first is not None
    assert after is not None
    assert (first.ended, after.ended) == (True, False)


def test_a_canary_that_lacks_what_it_mounts_says_so() -> None:
    """It is no want of room, and no accident: its node waits for a ConfigMap that is not there."""
    model = _model("Starting")
    canary = _canary(model)
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": BEGAN},
        {"type": "PodReadyToStartContainers", "status": "False"},
    ]
    pod = make_pod("c", hash_of(model), phase="Pending", conditions=conditions)
    pod["metadata"]["labels"] |= {TRACK_LABEL: CANARY}
    pod["spec"] = {"volumes": [{"name": "files", "configMap": {"name": "templates"}}]}
    own = snapshot_of(model, deployment_of(model), canary, pods=(pod,), revisions={model.key: ()})
    own = replace(own, mounted={ObjectKey("team", "templates"): None})
    seen = _seen(model, own, build_model(model, own, SETTINGS)).canary
    assert seen is not None
    assert "the ConfigMap 'templates', which does not exist" in seen.message
    assert (seen.lacks_room, seen.trouble) == (False, "")


def test_a_canary_whose_claims_are_being_made_does_not_lack_room() -> None:
    """No scheduler has looked at it yet, so that nobody is told of a want of room."""
    model = _model("Starting")
    pod = make_pod("c", hash_of(model), phase="Pending", conditions=[])
    pod["metadata"] |= {"creationTimestamp": NOW.isoformat()}
    pod["metadata"]["labels"] |= {TRACK_LABEL: CANARY}
    pod["spec"] = {"resourceClaims": [{"name": "gpus", "resourceClaimTemplateName": "pair"}]}
    own = snapshot_of(model, deployment_of(model), _canary(model), pods=(pod,), revisions={model.key: ()})
    seen = _seen(model, own, build_model(model, own, SETTINGS)).canary
    assert seen is not None
    assert (seen.message, seen.lacks_room) == ("claims of devices are being made", False)
