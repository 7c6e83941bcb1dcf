"""Rollouts in steps of models with a profile: a changed one is tried as a changed spec is, when its turn comes."""

from dataclasses import replace

from capstan_contract.gates import Outcome
from capstan_operator.desired.adoption import RolloutState
from capstan_operator.desired.faults import judge_faults
from capstan_operator.desired.profiled import ProfiledSpec, own_spec
from capstan_operator.desired.rollouts.machine import is_trying_profile, waits_for_turn
from capstan_operator.desired.rollouts.memory import Asked, State, read_memory, write_memory
from capstan_operator.desired.rollouts.revisions import (
    build_spec_revision,
    held_revision,
    merge_specs,
    read_spec,
    revision_of,
)
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.template_changes import hash_of_spec
from capstan_operator.desired.types import DesiredModel, Pending
from capstan_operator.models.rollouts import NoCounts, Rollouts
from capstan_operator.resources.resource import ObjectKey
from support.plainmodels import SETTINGS, make_model
from support.profiles import profiled
from support.rollout_world import World, summary

STEPS = {"steps": [{"weight": 10}, {"weight": 50}]}
L4 = {"nodeSelector": {"gpu": "l4"}, "engines": {"vLLM": {"args": ["--seed", "1"]}}}
NEW = {"nodeSelector": {"gpu": "new"}, "gpuResource": "example.com/gpu"}


def test_a_changed_profile_goes_through_the_same_canary() -> None:
    """At the generation that is served already: through the suites and every step, to all pods."""
    world = World()
    world.run(2)
    world.change_profile("new")
    world.run()
    assert (world.state, world.deployed) == (State.COMPLETE, "new")
    assert world.served == [("new", float(step.weight)) for step in world.rollout.steps]
    assert world.memory is not None
    assert (world.memory.profile, world.memory.ofProfile) == ("profile of new", None)


def test_it_begins_when_its_turn_comes() -> None:
    """Until then nothing is tried and nothing replaced, whoever looks; a change of the spec waits for nobody."""
    world = World()
    world.run(2)
    world.is_its_turn = False
    world.change_profile("new")
    world.run(20)
    assert (world.state, world.deployed, world.canary) == (State.COMPLETE, "old", None)
    world.change("newer")
    world.run(3)
    assert world.memory is not None
    assert (world.memory.candidate, world.memory.ofProfile) == ("newer", None)
    other = World()
    other.run(2)
    other.is_its_turn = False
    other.change_profile("new")
    other.run(2)
    other.is_its_turn = True
    other.run(1)
    other.is_its_turn = False
    assert other.memory is not None
    assert is_trying_profile(other.memory)
    other.run()
    assert (other.state, other.deployed) == (State.COMPLETE, "new")


def test_a_rejected_profile_says_nothing_of_the_next_one() -> None:
    """The generation is the same, and yet it is another revision: it is tried; the rejected one is not tried again."""
    world = World(suites=summary(Outcome.FAIL))
    world.run(2)
    world.change_profile("bad")
    world.run(20)
    assert (world.state, world.deployed) == (State.ROLLED_BACK, "old")
    world.suites = summary(Outcome.PASS)
    world.change_profile("good")
    world.run()
    assert (world.state, world.deployed) == (State.COMPLETE, "good")
    world.change_profile("bad")
    world.run(3)
    assert (world.state, world.deployed) == (State.ROLLED_BACK, "good")


def test_a_stable_spec_is_kept_with_its_profile() -> None:
    """What a ControllerRevision keeps is the merged spec, what the manifest said, and what the profile gave: all three
    are as they were, though the profile is another one by now."""
    spec = profiled(make_model(profile="l4", rollout=STEPS, replicas=2), L4).spec
    assert isinstance(spec, ProfiledSpec)
    kept = read_spec(build_spec_revision("llama", spec, revision_of(spec)))
    assert isinstance(kept, ProfiledSpec)
    assert kept.model_dump() == spec.model_dump()
    assert (revision_of(kept), hash_of_spec(kept), kept.profile_hash) == (
        revision_of(spec),
        hash_of_spec(spec),
        spec.profile_hash,
    )
    newest = profiled(make_model(generation=2, profile="l4", rollout=STEPS, replicas=5), NEW).spec
    assert newest is not None
    merged = merge_specs(kept, newest)
    assert (merged.replicas, merged.resources.nodeSelector) == (5, {"gpu": "l4"})
    assert (hash_of_spec(merged), revision_of(merged)) == (hash_of_spec(spec), revision_of(spec))
    plain = make_model(rollout=STEPS).spec
    assert plain is not None
    assert "own" not in build_spec_revision("llama", plain, "r")["data"]


def test_what_is_wrong_in_the_newest_manifest_is_said_of_it() -> None:
    """Not of the profile, while the pods are those of an older revision with it."""
    model = make_model(
        profile="l4", rollout=STEPS, adapters=[{"name": "fast", "source": "hf://org/fast", "servedName": "quick"}]
    )
    stable = profiled(model, L4).spec
    newest = profiled(model, NEW).spec
    assert stable is not None
    assert newest is not None
    renamed = newest.model_copy(update={"model": newest.model.model_copy(update={"aliases": ("quick",)})})
    assert isinstance(renamed, ProfiledSpec)
    renamed = renamed.saying(own_spec(newest).model_copy(update={"model": renamed.model}))
    merged = merge_specs(stable, renamed)
    assert merged.resources.nodeSelector == {"gpu": "l4"}
    (fault,) = judge_faults(replace(model, spec=merged))
    assert fault.field == "spec.adapters[0].servedName"


def test_one_that_waits_says_so_and_asks_for_room_where_it_is_going() -> None:
    """It holds its stable revision, its status tells of something newer, and its turn depends on the nodes of the new
    profile. One on which a profile is tried has a place, whatever its Deployment says."""
    before = profiled(make_model(profile="l4", rollout=STEPS), L4)
    assert isinstance(before.spec, ProfiledSpec)
    stable = revision_of(before.spec)
    asked = Asked(stable, 1, before.spec.profile_hash)
    told = {"state": "Complete", "stable": stable, "generation": 1, "profile": asked.profile}
    memory = read_memory({"rollout": told})
    assert memory is not None
    assert not waits_for_turn(memory, asked)
    status = {"rollout": write_memory(memory)}
    changed = profiled(make_model(profile="l4", rollout=STEPS, resources={"gpus": 2}, status=status), NEW)
    assert held_revision(changed) == stable
    rollouts = Rollouts(SETTINGS, split=lambda _: None, counts=NoCounts(), is_its_turn=lambda _: False)
    held = replace(changed, spec=before.spec, tried=changed.spec)
    turn, _ = rollouts.begin(held, Snapshot(models={}))
    state = RolloutState(ObjectKey("team", "llama"), "")
    desired = DesiredModel(ObjectKey("team", "llama"), ())
    assert rollouts.waiting(turn, desired).pending is Pending.ADOPTION
    placed = rollouts.place(turn, state)
    assert placed is not None
    assert (placed.gpus, placed.gpu_resource, placed.node_selector) == (2, "example.com/gpu", (("gpu", "new"),))
    at_zero = rollouts.place(turn, replace(state, idle=True))
    assert at_zero is not None
    assert at_zero.gpus == 0
    trying = memory.model_copy(update={"state": "Step", "candidate": "new", "ofProfile": True, "profile": "new"})
    placed = rollouts.place(replace(turn, memory=trying), state)
    assert placed is not None
    assert placed.has_place
    assert rollouts.waiting(replace(turn, memory=trying), desired).pending is None
