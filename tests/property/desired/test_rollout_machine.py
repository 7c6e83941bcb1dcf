"""A rollout comes to the same end wherever the operator is killed."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.gates import Outcome
from capstan_operator.desired.rollouts.machine import Action, decide
from support.rollout_world import World, counters, spec, summary

OUTCOMES = st.sampled_from([Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, None])


@st.composite
def stories(draw: st.DrawFn) -> dict[str, Any]:
    """What happens in a rollout: how it is asked for, what the suites and the gates find, and what a person does."""
    return {
        "rollout": {
            "gate": draw(st.sampled_from([None, {"suites": [{"configMap": "s"}]}, {"latency": {"ttftP95": "1.2"}}])),
            "onFail": draw(st.sampled_from([None, "Rollback", "Pause"])),
            "onInconclusive": draw(st.sampled_from([None, "Wait", "Pause", "Promote"])),
        },
        "outcome": draw(OUTCOMES),
        "micros": draw(st.sampled_from([100_000, 300_000])),
        "broken": draw(st.sampled_from(["", "", "CrashLoop"])),
        "room": draw(st.sampled_from([True, True, False])),
        "slow": draw(st.booleans()),
        "changes": draw(st.lists(st.tuples(st.integers(1, 15), st.sampled_from(["old", "new", "newer"])), max_size=3)),
        "of_profile": draw(st.booleans()),
        "says": draw(st.none() | st.sampled_from(["promote", "abort", "retry"])),
    }


def _told(story: dict[str, Any], dies_after: int) -> World:
    world = World(rollout=spec(**story["rollout"]), suites=summary(story["outcome"]), dies_after=-1)
    world.canary_counts, world.slow_gateways = counters(64_000, micros=story["micros"]), story["slow"]
    world.run(2)
    world.dies_after, world.writes = dies_after, 0
    change = world.change_profile if story["of_profile"] else world.change
    change("new")
    for looks, revision in story["changes"]:
        world.run(looks)
        change(revision)
    world.broken, world.room = story["broken"], story["room"]
    world.run(40)
    if story["says"]:
        world.action = Action(f"{story['says']}={world.revision}", story["says"], world.revision)
    world.run(40)
    return world


@given(story=stories(), dies_after=st.integers(1, 25))
def test_killed_after_any_write_it_ends_the_same(story: dict[str, Any], dies_after: int) -> None:
    """Whatever happens, and after whichever write the process ends: stable pods, canary, weights and the rejected
    revisions are in the end what they are without."""
    undisturbed, disturbed = _told({**story, "changes": []}, -1), _told({**story, "changes": []}, dies_after)
    assert disturbed.end == undisturbed.end


@given(story=stories(), dies_after=st.integers(-1, 25))
def test_no_revision_serves_beyond_its_step(story: dict[str, Any], dies_after: int) -> None:
    """Gateways are never told a weight that is no step's, no canary goes that they send to, and one whose suite fails
    gets no request, nor takes the place of what serves."""
    world = _told(story, dies_after)
    assert not world.torn
    weights = [step.weight for step in world.rollout.steps]
    assert {weight for _, weight in world.served} <= set(weights)
    if story["outcome"] is Outcome.FAIL and story["rollout"]["gate"] == {"suites": [{"configMap": "s"}]}:
        assert world.served == [] or story["says"] == "promote"
        assert world.deployed == "old" or story["says"] == "promote"


@given(story=stories())
def test_asked_again_it_says_the_same(story: dict[str, Any]) -> None:
    """What was decided, and is seen again at the same moment, is decided again, until nothing more follows."""
    world = _told(story, -1)
    memory = world.memory
    for _ in range(20):
        decided = decide(memory, world.seen()).memory
        if decided == memory:
            break
        memory = decided
    assert decide(memory, world.seen()).memory == memory
