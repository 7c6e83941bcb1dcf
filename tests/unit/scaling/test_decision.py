"""How many replicas there should be."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from capstan_operator.api.scaling import Scaling
from capstan_operator.scaling.decision import Decision, Limit, Now, Reason, Scaler
from capstan_operator.scaling.demand import Demand

BEGAN = datetime(2026, 5, 4, 12, tzinfo=UTC)


@dataclass
class World:
    """A model whose replicas follow what is decided, one second after the other."""

    scaling: dict[str, object]
    current: int = 1
    ready: int | None = None
    """None: as many as there should be."""
    seconds: float = 0.0
    scaler: Scaler = field(default_factory=Scaler)

    def tell(self, demand: Demand | None, times: int = 1, step: float = 1.0) -> Decision:
        """Tell the same demand so many times; give what was decided last."""
        for _ in range(times):
            ready = self.current if self.ready is None else self.ready
            now = Now(BEGAN + timedelta(seconds=self.seconds), self.seconds, self.current, ready)
            found = self.scaler.decide(Scaling.model_validate(self.scaling), demand, now)
            self.current = found.desired
            self.seconds += step
        return found


def test_more_is_asked_for_and_comes_at_once() -> None:
    """32 requests are one replica's, unless it says otherwise: 100 of them are for four."""
    found = World({"max": 8}).tell(Demand(in_flight=60, waiting=40))
    assert (found.desired, found.reason, found.load) == (4, Reason.MORE, 3.125)


def test_fewer_come_when_fewer_have_been_enough_for_long() -> None:
    """The most that was asked for within the stretch stays; then it goes down to what is asked for."""
    world = World({"max": 8, "scaleDownStabilizationSeconds": 60}, current=1)
    world.tell(Demand(in_flight=200))
    assert world.current == 7
    found = world.tell(Demand(in_flight=10), times=59)
    assert (found.desired, found.reason) == (7, Reason.STABILIZING)
    found = world.tell(Demand(in_flight=10), times=3)
    assert found.desired == 1


def test_more_waits_where_the_manifest_says_so() -> None:
    """With `scaleUpStabilizationSeconds` a peak that is shorter changes nothing; what asks for twice as many does."""
    world = World({"max": 8, "scaleUpStabilizationSeconds": 10}, current=4)
    assert world.tell(Demand(in_flight=32 * 4), times=12).desired == 4
    assert world.tell(Demand(in_flight=32 * 6), times=9).desired == 4
    assert world.tell(Demand(in_flight=32 * 6), times=4).desired == 6
    world = World({"max": 8, "scaleUpStabilizationSeconds": 10}, current=4)
    assert world.tell(Demand(in_flight=32 * 8)).desired == 8


def test_a_little_more_than_there_should_be_is_borne() -> None:
    """A tenth above the target adds nothing."""
    assert World({"max": 8}, current=2).tell(Demand(in_flight=70)).desired == 2
    assert World({"max": 8}, current=2).tell(Demand(in_flight=71)).desired == 3


def test_the_first_request_wakes_a_model_at_once() -> None:
    """One that waits is enough, whatever the stabilisation; and nothing else wakes it."""
    sleeping = {"min": 0, "max": 3, "scaleUpStabilizationSeconds": 60}
    found = World(sleeping, current=0).tell(Demand(waiting=1))
    assert (found.desired, found.reason) == (1, Reason.WOKEN)
    assert World(sleeping, current=0).tell(Demand(came=True), times=3).desired == 0


def test_requests_that_were_refused_wake_a_model_too() -> None:
    """A client that waits for nothing shows as refused alone."""
    world = World({"min": 0, "max": 3}, current=0)
    assert world.tell(Demand()).desired == 0
    assert world.tell(Demand(came=True, was_refused=True)).desired == 1


def test_what_was_refused_long_ago_wakes_nobody() -> None:
    """A rate that decays is no request."""
    world = World({"min": 0, "max": 3}, current=0)
    for rate in (1.0, 0.967, 0.935, 0.904):
        found = world.tell(Demand(rejected=rate))
    assert found.desired == 0


def test_a_model_goes_to_zero_after_its_time_without_any_request() -> None:
    """Any request in between begins the time anew, also one that is over before demand is told again."""
    world = World({"min": 0, "max": 3, "idleSeconds": 60, "coldStartSeconds": 10}, current=1)
    assert world.tell(Demand(), times=59).desired == 1
    assert world.tell(Demand(came=True)).desired == 1
    assert world.tell(Demand(), times=60).desired == 1
    found = world.tell(Demand(), times=2)
    assert (found.desired, found.reason) == (0, Reason.IDLE)


@pytest.mark.parametrize("said", [None, Demand(complete=False)])
def test_nothing_goes_to_zero_at_a_moment_at_which_not_everybody_answers(said: Demand | None) -> None:
    """The time may be over, but the gateway that does not answer may just have been given a request."""
    world = World({"min": 0, "max": 2, "idleSeconds": 300})
    world.tell(Demand(), times=300)
    for _ in range(5):
        assert world.tell(said).desired == 1
        assert world.scaler.idle_seconds(world.seconds - 1.0) is None
    assert world.tell(Demand()).desired == 0


def test_a_model_with_a_minimum_never_goes_to_zero() -> None:
    """`min` is one unless it is said."""
    assert World({"max": 3, "idleSeconds": 121}, current=1).tell(Demand(), times=300).desired == 1


def test_what_is_not_known_moves_nothing() -> None:
    """Neither silence of all nor of one takes a replica away or counts as idle; bounds are kept all the same."""
    eager = {"min": 0, "max": 3, "scaleDownStabilizationSeconds": 5, "idleSeconds": 11, "coldStartSeconds": 10}
    found = World(eager, current=2).tell(None, times=100)
    assert (found.desired, found.reason, found.load) == (2, Reason.UNKNOWN, None)
    assert World(eager, current=2).tell(Demand(complete=False), times=100).desired == 2
    assert World(eager, current=0).tell(None, times=10).desired == 0
    found = World(eager, current=7).tell(None)
    assert (found.desired, found.limited_by) == (3, Limit.MAX)


def test_what_some_replicas_say_adds_replicas() -> None:
    """What is said is too little, so it is enough to go up."""
    assert World({"max": 5}, current=1).tell(Demand(in_flight=90, complete=False)).desired == 3


def test_a_break_begins_the_idle_time_anew() -> None:
    """A round that fails does not; a long silence might have hidden requests."""
    scaling = {"min": 0, "max": 3, "idleSeconds": 30, "coldStartSeconds": 10}
    world = World(scaling, current=1)
    world.tell(Demand(), times=20)
    world.tell(None, times=5)
    assert world.tell(Demand(), times=7).desired == 0
    world = World(scaling, current=1)
    world.tell(Demand(), times=20)
    world.tell(None, times=20)
    assert world.tell(Demand(), times=29).desired == 1
    assert world.tell(Demand(), times=3).desired == 0


def test_idle_time_goes_on_where_a_process_before_has_left_it() -> None:
    """An operator that begins goes on from what the status says."""
    scaling = {"min": 0, "max": 3, "idleSeconds": 600}
    world = World(scaling, current=1, scaler=Scaler(idle_since=BEGAN - timedelta(seconds=290)))
    assert world.tell(Demand(), times=310).desired == 1
    assert world.tell(Demand(), times=2).desired == 0


def test_the_clock_on_the_wall_makes_nobody_idle() -> None:
    """It may be set while the operator runs; how long nothing was asked for is counted by one that is not."""
    scaling = Scaling.model_validate({"min": 0, "max": 3, "idleSeconds": 600})
    scaler = Scaler()
    for second in range(601):
        wall = BEGAN + timedelta(seconds=second, days=second // 400)
        found = scaler.decide(scaling, Demand(), Now(wall, float(second), 1, 1))
        assert found.desired == (1 if second < 600 else 0)


def test_a_break_in_what_is_known_begins_the_time_anew_that_must_be_seen() -> None:
    """Also where requests came in part of it: to zero goes only what was seen in whole for long enough."""
    world = World({"min": 0, "max": 3, "idleSeconds": 20, "coldStartSeconds": 5}, current=1)
    world.tell(Demand(), times=5)
    world.tell(Demand(in_flight=1, complete=False), times=20)
    assert world.tell(Demand(), times=20).desired == 1
    assert world.tell(Demand(), times=2).desired == 0


def test_a_queue_that_grows_counts_as_it_will_be() -> None:
    """Before replicas that are ready; before none it grows because there is none."""
    world = World({"max": 20}, current=1, ready=1)
    for waiting in (0, 10, 20):
        found = world.tell(Demand(in_flight=32, waiting=waiting))
    assert found.load == (32 + 20 + 10 * 15) / 32
    world = World({"max": 20}, current=1, ready=0)
    for waiting in (0, 10, 20):
        found = world.tell(Demand(waiting=waiting))
    assert found.load == 20 / 32


def test_refusals_of_a_model_without_a_ready_replica_add_none() -> None:
    """They wake it and keep what there is: a model that does not come up is not made larger by retries."""
    retries = Demand(came=True, was_refused=True, rejected=30.0)
    world = World({"min": 0, "max": 20}, current=0, ready=0)
    assert world.tell(retries, times=30).desired == 1
    world = World({"max": 20, "scaleDownStabilizationSeconds": 5}, current=3, ready=0)
    assert world.tell(retries, times=30).desired == 3
    assert world.tell(replace(retries, waiting=160), times=3).desired == 5
    world.ready = None
    assert world.tell(retries).desired == 10


@pytest.mark.parametrize(
    ("targets", "demand", "desired"),
    [
        ({"inFlightPerReplica": 4}, Demand(in_flight=12), 3),
        ({"tokensPerSecond": 1000}, Demand(in_flight=500, tokens=1500), 2),
        ({"queueWaitSeconds": 10}, Demand(in_flight=10, waiting=1, oldest_wait=15), 3),
        ({"queueWaitSeconds": 10}, Demand(in_flight=10, waiting=1, oldest_wait=60), 4),
        ({"timeToFirstTokenSeconds": "0.5"}, Demand(in_flight=10, first_token=0.7), 3),
        ({"timeToFirstTokenSeconds": "0.5"}, Demand(in_flight=10), 2),
    ],
)
def test_each_target_asks_for_replicas(targets: dict[str, object], demand: Demand, desired: int) -> None:
    """By its share of what two replicas bear; targets of waiting never for more than twice the ready ones."""
    assert World({"max": 9, "targets": targets}, current=2).tell(demand).desired == desired


def test_a_target_of_waiting_keeps_what_there_is_while_it_is_near() -> None:
    """Fewer replicas would be enough for what is in flight, but not for the wait."""
    scaling = {"max": 9, "scaleDownStabilizationSeconds": 5, "targets": {"queueWaitSeconds": 10}}
    near = Demand(in_flight=10, waiting=1, oldest_wait=8)
    assert World(scaling, current=4).tell(near, times=20).desired == 4
    assert World(scaling, current=4).tell(Demand(in_flight=10, oldest_wait=2), times=20).desired == 1


def test_what_limits_the_number_is_said() -> None:
    """More than `max`, less than `min` or than a schedule says."""
    assert World({"max": 3}).tell(Demand(in_flight=500)).limited_by is Limit.MAX
    assert World({"min": 2, "max": 3}, current=2).tell(Demand()).limited_by is Limit.MIN
    nightly = {"max": 3, "schedules": [{"cron": "0 0 * * *", "min": 2}]}
    found = World(nightly, current=1).tell(Demand(in_flight=1))
    assert (found.desired, found.limited_by) == (2, Limit.SCHEDULE)
    assert World({"max": 3}, current=1).tell(Demand(in_flight=1)).limited_by is None


def test_a_schedule_wakes_a_model_at_zero() -> None:
    """Without any request, and without anything being known of them."""
    nightly = {"min": 0, "max": 3, "schedules": [{"cron": "0 0 * * *", "min": 2}]}
    assert World(nightly, current=0).tell(Demand()).desired == 2
    assert World(nightly, current=0).tell(None).desired == 2


KV: dict[str, object] = {
    "max": 8, "scaleDownStabilizationSeconds": 5, "targets": {"kvCacheUtilization": 80},
}  # fmt: skip


def test_full_caches_ask_for_more() -> None:
    """In proportion: what fills two to 100 % fills three to less than 80 %."""
    found = World(KV, current=2).tell(Demand(kv_used=2.0, kv_told=2, ready=2))
    assert (found.desired, found.load) == (3, 2.5)
    assert World(KV, current=2).tell(Demand(kv_used=1.7, kv_told=2, ready=2)).desired == 2


def test_caches_that_are_not_full_let_replicas_go() -> None:
    """When that has lasted, as with any target; and what waits counts beside it."""
    assert World(KV, current=4).tell(Demand(kv_used=1.0, kv_told=4, ready=4, in_flight=9), times=9).desired == 2
    assert World(KV, current=4).tell(Demand(kv_used=1.0, kv_told=4, in_flight=32 * 4), times=9).desired == 4


def test_caches_of_which_nothing_is_known_are_not_empty() -> None:
    """As long as one ready replica has not told, or none has, nothing is taken away for it; to zero it may go."""
    assert World(KV, current=4).tell(Demand(in_flight=1), times=20).desired == 4
    assert World(KV, current=4).tell(Demand(kv_used=0.3, kv_told=3, in_flight=1), times=20).desired == 4
    assert World(KV, current=4, ready=0).tell(Demand(kv_used=0.3, kv_told=3, in_flight=1), times=20).desired == 4
    idle = World({**KV, "min": 0, "idleSeconds": 9, "coldStartSeconds": 5}, current=4)
    assert idle.tell(Demand(), times=20).desired == 0
    assert World({**KV, "min": 0}, current=0).tell(Demand()).desired == 0


def test_a_replica_that_has_just_come_does_not_count_as_full() -> None:
    """What the others hold is known: a third one of which nothing is known asks for no fourth."""
    assert World(KV, current=3).tell(Demand(kv_used=2.0, kv_told=2, ready=3), times=5).desired == 3
