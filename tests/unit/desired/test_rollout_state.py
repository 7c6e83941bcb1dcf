"""What counts of one model when it is decided whose turn is next."""

from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.adoption import ROLLED_OUT, RolloutState, decide_turns, is_rolling, rollout_state
from capstan_operator.desired.model import build_model
from capstan_operator.desired.snapshot import NodeCapacity, Snapshot
from capstan_operator.desired.types import Pending
from capstan_operator.resources.resource import Manifest, ObjectKey
from support.plainmodels import (
    SETTINGS,
    as_deleting,
    deployment_of,
    gpu_pod,
    hash_of,
    make_model,
    make_pod,
    snapshot_of,
)
from support.profiles import profiled

GPU = "nvidia.com/gpu"
DONE = {"type": "Progressing", "status": "True", "reason": ROLLED_OUT}
AT_WORK = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}
OTHER = {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}


def _state(
    model: Model,
    *pods: Manifest,
    progress: dict[str, str] = AT_WORK,
    pending: Pending | None = None,
    replicas: int | None = None,
) -> RolloutState | None:
    live = deployment_of(model, conditions=[OTHER, progress])
    if replicas is not None:
        live["spec"] = {**live["spec"], "replicas": replicas}
    snapshot = snapshot_of(model, live, pods=pods)
    return rollout_state(model, replace(build_model(model, snapshot, SETTINGS), pending=pending), snapshot)


def _known(*arguments: Any, **options: Any) -> RolloutState:
    state = _state(*arguments, **options)
    assert state
    return state


def test_a_model_without_pods_has_no_part_in_turns() -> None:
    """One that has no Deployment yet, that is faulty or that goes does not count."""
    model = make_model()
    empty = snapshot_of(model)
    assert rollout_state(model, build_model(model, empty, SETTINGS), empty) is None
    for other in (as_deleting(model), make_model(replicas=-1)):
        snapshot = snapshot_of(other, deployment_of(model))
        assert rollout_state(other, build_model(other, snapshot, SETTINGS), snapshot) is None


@pytest.mark.parametrize(
    ("observed", "generation", "conditions", "rolls"),
    [
        (None, None, [OTHER, DONE], False),
        (None, 1, [OTHER, DONE], True),
        (1, 1, [OTHER, DONE], False),
        (1, 2, [DONE], True),
        (2, 2, [OTHER, AT_WORK], True),
        (2, 2, [OTHER], True),
        (2, 2, None, True),
    ],
)
def test_a_rollout_ends_when_the_controller_says_so_of_the_newest_generation(
    observed: int | None, generation: int | None, conditions: list[dict[str, str]] | None, rolls: bool
) -> None:
    """What it said of an older one does not count, and neither does silence."""
    status = {"observedGeneration": observed, "conditions": conditions}
    assert is_rolling({"metadata": {"generation": generation}, "status": status}) is rolls


def test_a_deployment_that_nobody_has_looked_at_rolls() -> None:
    """It has no status at all."""
    assert is_rolling({"metadata": {"generation": 1}})
    assert is_rolling({"metadata": {}})


TWO = {"replicas": 2, "resources": {"gpus": 2}}


def _placed(model: Model, *, ready: bool) -> Manifest:
    return make_pod("placed", hash_of(model), ready=ready, spec={"nodeName": "n"})


def test_gpus_that_the_next_pod_has_not_found_yet_are_kept_for_it() -> None:
    """As long as a new pod is to come, and those that are there have come up: then it is the next one's turn."""
    model = make_model(**TWO)
    ready, starting = _placed(model, ready=True), _placed(model, ready=False)
    nowhere = {**make_pod("new", hash_of(model)), "spec": None}
    old = gpu_pod("old", "old")
    for pods, unplaced in (
        ((), 2),
        ((old, old), 2),
        ((nowhere, old), 2),
        ((ready, old), 2),
        ((ready, nowhere), 2),
        ((starting, old), 0),
        ((ready, starting), 0),
        ((ready, ready), 0),
    ):
        assert _known(model, *pods).unplaced == unplaced
    assert _known(model, progress=DONE).unplaced == 0


def test_one_more_pod_needs_the_gpus_of_the_spec() -> None:
    """None when an old one goes first, and none when no replica is wanted."""
    assert _known(make_model(**TWO)).gpus == 2
    assert _known(make_model(rollout={"strategy": "InPlace"}, **TWO)).gpus == 0
    assert _known(make_model(replicas=0, resources={"gpus": 2})).gpus == 0
    assert _known(make_model()).gpus == 0


@pytest.mark.parametrize("pending", [None, *Pending])
def test_only_a_change_that_is_taken_up_in_turns_waits_for_one(pending: Pending | None) -> None:
    """What comes with the next change of the spec waits for that."""
    assert _known(make_model(), pending=pending).waits is (pending is Pending.ADOPTION)


def test_who_wants_no_replica_lets_nobody_down_and_rolls_nothing() -> None:
    """It serves as it is meant to; without a ready pod one that wants some does not."""
    model = make_model()
    idle, alone = _known(make_model(replicas=0)), _known(model)
    assert (idle.serves, idle.rolls, alone.serves, alone.rolls) == (True, False, False, True)
    assert _known(model, make_pod("p", "old", ready=True)).serves
    assert not _known(model, make_pod("p", "old")).serves
    assert not _known(model, make_pod("p", "old", ready=True, phase="Failed")).serves


def test_an_autoscaler_says_how_many_replicas_are_wanted() -> None:
    """Scaled to nothing, a model is idle."""
    model = make_model(scaling={"min": 0, "max": 3})
    assert _known(model, replicas=0).serves
    assert not _known(model, replicas=1).serves


def test_of_pods_that_were_not_listed_none_is_there() -> None:
    """A snapshot need not name every model."""
    model = make_model()
    live = deployment_of(model, conditions=[AT_WORK])
    snapshot = Snapshot(models={model.key: model}, children={model.key: (live,)})
    desired = replace(build_model(model, snapshot, SETTINGS), rollout=None)
    state = rollout_state(model, desired, snapshot)
    assert state
    assert (state.serves, state.rolls, state.stuck) == (False, True, False)


def _waiting(name: str = "m", **fields: Any) -> RolloutState:
    return RolloutState(key=ObjectKey("team", name), created="2026-01-01", waits=True, **fields)


def test_who_has_a_place_takes_up_a_newer_template_in_it() -> None:
    """It needs no further place."""
    on_its_way, other = _waiting(rolls=True, adopts=True), _waiting("n")
    assert decide_turns([on_its_way, other], nodes=None, places=1) == {on_its_way.key}


def test_a_node_without_such_gpus_has_no_room() -> None:
    """It says nothing about a resource that it does not have."""
    needs = _waiting(gpus=1, gpu_resource=GPU)
    assert decide_turns([needs], nodes=(NodeCapacity("cpu", {}),), places=1) == set()
    both = (NodeCapacity("cpu", {}), NodeCapacity("gpu", {GPU: 1}))
    assert decide_turns([needs], nodes=both, places=1) == {needs.key}


def test_who_waits_is_asked_for_where_its_new_pods_may_be() -> None:
    """A changed profile may send pods to other nodes than those where they are: room there counts, by the manifest's
    own template too; while they are replaced, the nodes are those of the template that is in force."""
    patch = {"spec": {"nodeSelector": {"own": "x", "old": None}}}
    before = profiled(make_model(profile="p", template=patch), {"nodeSelector": {"pool": "old"}})
    after = profiled(make_model(profile="p", template=patch), {"nodeSelector": {"pool": "new"}, "gpuResource": "a.b/c"})
    live = deployment_of(before, conditions=[OTHER, AT_WORK])
    snapshot = snapshot_of(after, live)
    desired = build_model(after, snapshot, SETTINGS)
    assert desired.pending is Pending.ADOPTION
    waits = rollout_state(after, desired, snapshot)
    assert waits is not None
    assert (waits.node_selector, waits.gpu_resource) == ((("own", "x"), ("pool", "new")), "a.b/c")
    rolls = rollout_state(after, replace(desired, pending=None), snapshot)
    assert rolls is not None
    assert rolls.node_selector == (("own", "x"), ("pool", "old"))
