"""The breaker of one endpoint, step by step."""

from capstan_gateway.routing.breaker import Breaker, BreakerSettings, BreakerState

SETTINGS = BreakerSettings(threshold=3, open_seconds=1, max_open_seconds=4, trial_lease_seconds=5, successes_to_close=2)


def opened(at: float = 0.0) -> Breaker:
    """A breaker that opened at this time."""
    breaker = Breaker(SETTINGS)
    assert [breaker.fail(at) for _ in range(3)] == [False, False, True]
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    """A success in between starts the count anew."""
    breaker = Breaker(SETTINGS)
    for _ in range(5):
        breaker.fail(0)
        breaker.fail(0)
        breaker.succeed(0)
    assert breaker.allows(0)
    assert not opened().allows(0)


def test_it_is_closed_to_requests_for_its_time_and_then_takes_one() -> None:
    """After the time one trial goes through; the next one only when the first has succeeded."""
    breaker = opened()
    assert not breaker.allows(0.99)
    assert breaker.allows(1.0)
    breaker.begin(1.0)
    assert not breaker.allows(1.1)
    breaker.succeed(1.2)
    assert breaker.allows(1.2)
    assert breaker.state(1.2) is BreakerState.HALF_OPEN
    breaker.begin(1.2)
    breaker.succeed(1.3)
    assert breaker.state(1.3) is BreakerState.CLOSED


def test_a_failed_trial_opens_it_for_twice_as_long() -> None:
    """The time doubles with each failed trial, up to the largest."""
    breaker, now = opened(), 0.0
    for seconds in (1.0, 2.0, 4.0, 4.0):
        assert not breaker.allows(now + seconds - 0.01)
        now += seconds
        assert breaker.allows(now)
        breaker.begin(now)
        assert breaker.fail(now)


def test_a_trial_that_hangs_makes_room_for_another_one() -> None:
    """The lease of a trial ends without an outcome."""
    breaker = opened()
    breaker.begin(1.0)
    assert not breaker.allows(5.9)
    assert breaker.allows(6.0)


def test_stragglers_do_not_keep_it_open() -> None:
    """Requests sent before it opened and failing afterwards do not move the time of the trial."""
    breaker = opened()
    for moment in (0.1, 0.5, 0.9):
        assert not breaker.fail(moment)
    assert breaker.allows(1.0)


def test_retry_after_is_honoured_up_to_a_bound() -> None:
    """An upstream that asks for a pause gets it, but not for ever."""
    breaker = Breaker(SETTINGS)
    breaker.defer(0, 10)
    breaker.defer(0, 5)
    assert not breaker.allows(9.9)
    assert breaker.allows(10)
    breaker.defer(100, 1e9)
    assert breaker.allows(100 + SETTINGS.max_defer_seconds)
