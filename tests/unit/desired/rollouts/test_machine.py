"""What follows in a rollout from what is seen."""

from dataclasses import replace
from datetime import timedelta

import pytest

from capstan_contract.gates import Outcome
from capstan_operator.desired.rollouts.machine import (
    DRAIN_SECONDS,
    LOOK_SECONDS,
    Action,
    Split,
    Wants,
    canary_replicas,
    decide,
    read_action,
    wants_of,
)
from support.rollout_world import World, counters, spec, summary

REVISION = "new"


def _begun(**fields: object) -> World:
    """A world at rest whose spec has just been changed."""
    world = World(**fields)  # type: ignore[arg-type]
    world.run(2)
    assert world.state == "Complete"
    world.change(REVISION)
    return world


def _says(world: World, verb: str, *, suffix: str = "") -> None:
    world.action = Action(f"{verb}={REVISION}{suffix}", verb, REVISION, by="ann")


def test_nothing_is_remembered_without_steps() -> None:
    """Without steps there is no rollout, and what was remembered of one is forgotten."""
    world = _begun()
    world.run(3)
    world.rollout = spec(steps=[], gate=None)
    world.run(3)
    assert (world.status, world.canary, world.deployed) == ({}, None, REVISION)


def test_first_pods_are_made_at_once() -> None:
    """What a model is made with is stable once its pods are ready, without a canary."""
    world = World()
    world.look()
    assert world.state == "Complete"
    assert (world.canary, world.memory and world.memory.stable) == (None, "old")


def test_good_revision_is_promoted_through_its_steps() -> None:
    """What passes the suites and the gates gets each weight in turn, then all pods; then the canary goes."""
    world = _begun()
    world.run()
    assert world.end == (("Complete", None, REVISION, 2, 0), (), REVISION, None, 0, [(REVISION, 10), (REVISION, 50)])
    assert world.told == [
        *("RolloutStarting", "RolloutEvaluating", "RolloutStep", "RolloutStep", "RolloutPromoting", "Promoted"),
    ]


def test_canary_gets_no_request_before_the_suites_have_passed() -> None:
    """As long as the Job runs, the gateways send the canary nothing, and the stable pods are as they were."""
    world = _begun()
    world.suites = None
    world._job = lambda: None  # type: ignore[method-assign]
    world.run(10)
    assert (world.state, world.served, world.deployed) == ("Evaluating", [], "old")
    assert world.job


def test_worse_revision_is_rolled_back_unseen_by_clients() -> None:
    """A suite that fails rejects the revision: it gets no request, the stable pods stay, the canary goes."""
    world = _begun(suites=summary(Outcome.FAIL))
    world.run()
    assert world.end == (("RolledBack", "SuiteFailed", "old", 0, 0), ((REVISION, "SuiteFailed"),), "old", None, 0, [])


def test_rejected_revision_is_not_tried_again() -> None:
    """A spec that goes back to what serves, and then to the rejected revision again, makes no canary."""
    world = _begun(suites=summary(Outcome.FAIL))
    world.run(20)
    world.change("old")
    world.run(5)
    assert world.state == "Complete"
    world.change(REVISION)
    world.run(5)
    assert world.memory is not None
    assert (world.state, world.memory.reason, world.canary, world.deployed) == ("RolledBack", "Rejected", None, "old")
    world.change("newer")
    world.run(20)
    assert [one.revision for one in world.memory.rejected] == [REVISION, "newer"]


def test_slow_canary_loses_its_requests_at_once() -> None:
    """A live gate that fails takes the weight to zero in the status that is written next."""
    world = _begun(rollout=spec(gate={"latency": {"ttftP95": "1.2"}}), canary_counts=counters(64_000, micros=200_000))
    world.run()
    assert world.end == (
        ("RolledBack", "GateFailed", "old", 1, 0),
        ((REVISION, "GateFailed"),),
        "old",
        None,
        0,
        [(REVISION, 10)],
    )


def test_failure_pauses_where_that_is_asked_for() -> None:
    """With onFail Pause the canary stays without requests, until a person says how to go on."""
    world = _begun(rollout=spec(onFail="Pause"), suites=summary(Outcome.FAIL))
    world.run(20)
    assert (world.state, world.canary is not None, world.served, world.deployed) == ("Paused", True, [], "old")
    _says(world, "abort")
    world.run(5)
    assert (world.state, world.canary, world.deployed) == ("RolledBack", None, "old")


@pytest.mark.parametrize(("policy", "state"), [("Wait", "Evaluating"), ("Pause", "Paused"), ("Promote", "Complete")])
def test_suites_that_cannot_tell(policy: str, state: str) -> None:
    """What an inconclusive suite leads to is what onInconclusive says."""
    world = _begun(rollout=spec(onInconclusive=policy), suites=summary(Outcome.INCONCLUSIVE))
    world.run()
    assert world.state == state
    assert (world.deployed == REVISION) == (state == "Complete")


def test_suites_that_cannot_be_run_promote_nothing() -> None:
    """A missing suite, and a Job that ends without a word, pause even where doubts are to be promoted."""
    for left in (summary(None, error="the ConfigMap 'suite' does not exist", reason="SuiteNotFound"), None):
        world = _begun(rollout=spec(onInconclusive="Promote"), suites=left)
        world.run()
        assert (world.state, world.deployed, world.served) == ("Paused", "old", [])
        assert world.memory is not None
        assert world.memory.reason == ("SuiteNotFound" if left else "EvaluationFailed")


def test_step_waits_for_its_requests() -> None:
    """However long a step has lasted, it does not end before the canary has answered `minimumRequests`."""
    world = _begun(rollout=spec(steps=[{"weight": 10, "seconds": 0, "minimumRequests": 1000}], gate=None))
    world.canary_counts = counters(960)
    world.run()
    assert (world.state, world.memory and world.memory.reason) == ("Step", "TooFewRequests")
    world.canary_counts = counters(1024)
    world.run(5)
    assert world.state == "Complete"


def test_step_begins_when_every_gateway_splits_so() -> None:
    """The seconds of a step count from when all gateways have its weight."""
    world = _begun(rollout=spec(steps=[{"weight": 10, "seconds": 60, "minimumRequests": 0}], gate=None))
    world.passes = lambda seconds=20: _without_split(world, seconds)  # type: ignore[method-assign]
    world.run(30)
    assert (world.state, world.memory and world.memory.splitSince) == ("Step", None)


def _without_split(world: World, seconds: float) -> None:
    World.passes(world, seconds)
    world.split = replace(world.split, weight=0)


def test_live_gate_that_cannot_tell_waits() -> None:
    """A step whose gate is inconclusive goes on, and ends when there is enough to tell."""
    world = _begun(rollout=spec(gate={"errorRate": "0.01"}), canary_counts=counters(128))
    world.run()
    assert (world.state, world.memory and world.memory.reason) == ("Step", "Inconclusive")
    world.canary_counts, world.stable_counts = counters(64_000), counters(640_000)
    world.run()
    assert world.state == "Complete"


def test_change_in_the_middle_begins_anew() -> None:
    """A newer spec takes the place of what is tried: the canary of before goes before another one comes."""
    world = _begun(rollout=spec(gate=None))
    world.run(6)
    assert world.state == "Step"
    world.change("newer")
    world.look()
    world.passes()
    assert (world.state, world.split.weight) == ("Starting", 0)
    world.look()
    assert world.canary is None
    world.run()
    assert world.deployed == "newer"
    assert world.served == [(REVISION, 10), ("newer", 10), ("newer", 50)]


def test_spec_that_is_back_ends_the_rollout() -> None:
    """A spec that is again what serves takes the canary away, and nothing is rejected."""
    world = _begun(rollout=spec(gate=None))
    world.run(6)
    world.change("old")
    world.run(5)
    assert world.end[:4] == (("Complete", "Back", "old", 1, 0), (), "old", None)


def test_change_while_all_pods_are_replaced() -> None:
    """A spec that goes back while the pods are being replaced brings the stable pods back at once."""
    world = _begun()
    _says(world, "promote")
    world.run(2)
    world.look()
    assert (world.state, world.deployed) == ("Complete", REVISION)


def test_action_is_followed_once() -> None:
    """The same annotation, seen again and again, is one wish; another text is another one."""
    world = _begun(suites=summary(Outcome.FAIL))
    world.run(20)
    _says(world, "retry")
    world.run(20)
    assert world.memory is not None
    assert (world.state, world.memory.attempt) == ("RolledBack", 2)
    assert world.memory.action is not None
    assert (world.memory.action.action, world.memory.action.by) == ("retry=new", "ann")
    world.suites = summary(Outcome.PASS)
    _says(world, "retry", suffix="/3")
    world.run()
    assert (world.state, world.deployed) == ("Complete", REVISION)


def test_action_for_another_revision_is_no_action() -> None:
    """What was said of a revision is not done to another one."""
    world = _begun(rollout=spec(gate=None))
    world.action = Action("abort=other", "abort", "other")
    world.run()
    assert world.state == "Complete"


def test_no_stable_pod_means_no_canary() -> None:
    """A model at zero replicas has nothing to protect, and nothing to compare with: its pods are replaced at once."""
    world = _begun()
    world.replicas = 0
    world.run(5)
    assert (world.state, world.deployed, world.canary) == ("Complete", REVISION, None)


def test_no_room_waits_and_says_so() -> None:
    """Without a GPU the canary waits, past every deadline, and the stable pods stay as many as they were."""
    world = _begun(room=False)
    world.run()
    assert world.memory is not None
    assert (world.state, world.memory.reason, world.memory.replacesOne) == ("Starting", "NoRoom", None)
    assert world.told == ["RolloutStarting", "RolloutNoRoom"]


@pytest.mark.parametrize(("replicas", "gives"), [(2, True), (1, None)])
def test_replica_makes_room_where_that_is_asked_for(replicas: int, gives: bool | None) -> None:
    """With ReplaceOne a stable replica makes room once patience is over, but never the last one."""
    world = _begun(rollout=spec(whenNoRoom="ReplaceOne"), room=False, replicas=replicas)
    world.run(30)
    assert world.memory is not None
    assert world.memory.replacesOne is gives


def test_broken_canary_fails() -> None:
    """A canary that cannot run is rejected, in whichever step that turns out."""
    for looks in (0, 6):
        world = _begun(rollout=spec(gate=None))
        world.run(looks)
        world.broken = "CrashLoop"
        world.run(10)
        assert (world.state, world.deployed) == ("RolledBack", "old")


def test_numbers_alone_are_written_seldom() -> None:
    """Looks that see nothing but other numbers write the status now and then, not each time."""
    world = _begun(rollout=spec(gate=None, steps=[{"weight": 10, "seconds": 86_400}]))
    world.run(8)
    writes = world.writes
    for number in range(30):
        world.canary_counts = counters(6400 + 64 * number)
        world.look()
        world.now += timedelta(seconds=3)
    assert 1 <= world.writes - writes <= 4


@pytest.mark.parametrize(("replicas", "weight", "wanted"), [(1, 1, 1), (3, 50, 2), (10, 10, 1), (10, 11, 2)])
def test_canary_has_pods_for_its_share(replicas: int, weight: int, wanted: int) -> None:
    """The canary bears its share with as many pods as the stable ones would, and with one at least."""
    assert canary_replicas(replicas, weight) == wanted


@pytest.mark.parametrize("text", ["", "promote", "promote=", "delete=abc", 3, "promote=" + "a" * 200, None])
def test_what_is_no_action_is_left_aside(text: object) -> None:
    """An annotation that says nothing that can be done is none."""
    assert read_action({"a": text}, "a", "b") is None


def test_replica_that_made_room_is_back_when_the_rollout_ends() -> None:
    """What has made room for a canary comes back with a rejected revision, not only with the next one."""
    world = _begun(rollout=spec(whenNoRoom="ReplaceOne"), room=False, suites=summary(Outcome.FAIL))
    world.run(30)
    assert wants_of(world.memory, world.seen()).replaces_one
    world.room = True
    world.run(10)
    assert (world.state, wants_of(world.memory, world.seen()).replaces_one) == ("RolledBack", False)


def test_step_of_no_seconds_is_judged() -> None:
    """A step that asks for no time and no requests still does not end before its live gates have been looked at."""
    steps = [{"weight": 10, "seconds": 0, "minimumRequests": 0}]
    world = _begun(rollout=spec(steps=steps, gate={"errorRate": "0.01"}), canary_counts=counters(0))
    world.run(20)
    assert (world.state, world.deployed) == ("Step", "old")
    world.canary_counts = counters(6400, errors=3200)
    world.run(5)
    assert (world.state, world.deployed) == ("RolledBack", "old")


def test_later_step_without_room_says_so() -> None:
    """A step whose further canary pods find no GPU tells it, and is not looked at every second meanwhile."""
    world = _begun(rollout=spec(gate=None, steps=[{"weight": 10, "seconds": 0}, {"weight": 100}]), replicas=4)
    while not (world.memory and world.memory.step == 2):
        world.look()
        world.passes()
    world.look()
    assert world.canary is not None
    world.canary = replace(world.canary, ready=1, lacks_room=True, lacks_room_since=world.now, message="no GPU")
    decision = decide(world.memory, world.seen())
    assert decision.memory is not None
    assert (decision.memory.reason, decision.memory.weight) == ("NoRoom", 10)
    assert decision.after == LOOK_SECONDS


def test_promotion_without_room_takes_that_of_the_canary() -> None:
    """Where new pods find no room beside the only old one and the canary, the canary goes."""
    world = _begun(rollout=spec(gate=None), replicas=1)
    while world.state != "Promoting":
        world.look()
        world.passes()
    stuck = replace(world.seen(), rolled_out=False, surge_lacks_room_since=world.now - timedelta(seconds=400))
    assert wants_of(world.memory, stuck).canary == 1
    after = decide(world.memory, stuck).memory
    assert after is not None
    assert (after.state, after.reason, after.weight) == ("Promoting", "NoRoom", 0)
    assert wants_of(after, stuck).keeps
    assert wants_of(after, replace(stuck, split=Split())) == Wants()
    soon = replace(stuck, surge_lacks_room_since=world.now)
    assert decide(world.memory, soon).memory == world.memory


def test_action_that_came_too_late_is_not_followed_some_day() -> None:
    """An annotation that stays is no wish of whoever tries the same revision again later."""
    world = _begun(rollout=spec(gate=None))
    world.run()
    _says(world, "promote")
    world.run(2)
    world.change("old")
    world.run()
    assert world.state == "Complete"
    world.rollout, world.suites = spec(), summary(Outcome.FAIL)
    world.change(REVISION)
    world.run()
    assert (world.state, world.deployed) == ("RolledBack", "old")


def test_failed_canary_goes_although_gateways_send_to_it() -> None:
    """Gateways that take up no other config keep a failed canary no longer than a minute: stable pods answer for it."""
    world = _begun(rollout=spec(gate={"errorRate": "0.01"}))
    world.run(8)
    assert world.split.weight
    world.canary_counts = counters(6400, errors=3200)
    world.look()
    assert world.state == "RolledBack"
    assert wants_of(world.memory, world.seen()).keeps
    world.now += timedelta(seconds=DRAIN_SECONDS)
    assert wants_of(world.memory, world.seen()) == Wants()


def test_what_keeps_a_canary_from_coming_up_is_told() -> None:
    """While it is waited for, and with the end of the waiting."""
    world = _begun()
    world.passes = lambda *_: None  # type: ignore[method-assign, assignment]
    world.run(3)
    assert world.memory is not None
    assert world.memory.message == "the canary comes up"
    assert world.canary is not None
    world.canary = replace(world.canary, message="a replica mounts the ConfigMap 'x', which does not exist")
    world.run(1)
    assert world.memory.message == "the canary comes up: a replica mounts the ConfigMap 'x', which does not exist"
    world.canary = replace(world.canary, late=True)
    world.run(1)
    assert (world.state, world.memory.reason) == ("RolledBack", "CanaryNotReady")
    assert str(world.memory.message).endswith(" s: a replica mounts the ConfigMap 'x', which does not exist")
