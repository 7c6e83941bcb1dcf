"""The breaker of one endpoint, step by step."""

from dataclasses import replace

import pytest

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


def test_a_stragglers_failure_does_not_end_a_trial() -> None:
    """A request from before the breaker opened that fails while a trial is under way leaves it half-open."""
    breaker = Breaker(SETTINGS)
    straggler = breaker.begin(0)
    for _ in range(3):
        breaker.fail(0, breaker.begin(0))
    trial = breaker.begin(1.0)
    assert not breaker.fail(1.1, straggler)
    assert breaker.state(1.1) is BreakerState.HALF_OPEN
    breaker.succeed(1.2, trial)
    assert breaker.allows(1.2), "the trial has succeeded: the next one may begin"


def test_a_stragglers_success_does_not_bring_a_dead_endpoint_back() -> None:
    """Answers to requests from before the breaker opened are no trials, however many of them there are."""
    breaker = Breaker(SETTINGS)
    stragglers = [breaker.begin(0) for _ in range(5)]
    for _ in range(3):
        breaker.fail(0, breaker.begin(0))
    for straggler in stragglers[:2]:
        assert not breaker.succeed(0.5, straggler)
    assert breaker.state(0.5) is BreakerState.OPEN
    breaker.begin(1.0)
    for straggler in stragglers[2:]:
        assert not breaker.succeed(1.1, straggler)
    assert breaker.state(1.1) is BreakerState.HALF_OPEN
    assert not breaker.allows(1.1), "its one trial is still under way"


def test_stragglers_count_for_nothing_after_it_has_closed_again() -> None:
    """What began before it opened neither opens it once more nor starts the count of failures anew."""
    breaker = Breaker(SETTINGS)
    stragglers = [breaker.begin(0) for _ in range(4)]
    for _ in range(3):
        breaker.fail(0, breaker.begin(0))
    for moment in (1.0, 1.1):
        breaker.succeed(moment, breaker.begin(moment))
    assert breaker.state(1.1) is BreakerState.CLOSED
    for straggler in stragglers[:3]:
        assert not breaker.fail(1.2, straggler)
    assert breaker.state(1.2) is BreakerState.CLOSED
    fresh = breaker.begin(1.3)
    breaker.fail(1.3, fresh)
    breaker.fail(1.3, fresh)
    breaker.succeed(1.3, stragglers[3])
    assert breaker.fail(1.3, fresh)


def test_a_request_that_had_no_other_endpoint_is_no_trial() -> None:
    """The last endpoint of a model is used with its breaker open: such requests neither close it nor keep it open."""
    breaker = opened()
    forced = [breaker.begin(0.5) for _ in range(4)]
    assert not any(breaker.succeed(0.6, ticket) for ticket in forced[:2])
    assert not any(breaker.fail(0.7, ticket) for ticket in forced[2:])
    assert breaker.state(0.7) is BreakerState.OPEN
    assert breaker.allows(1.0)
    trial, beside = breaker.begin(1.0), breaker.begin(1.0)
    assert not breaker.fail(1.1, beside)
    assert not breaker.succeed(1.1, trial)
    assert breaker.state(1.1) is BreakerState.HALF_OPEN


def test_trials_that_close_it_are_in_a_row() -> None:
    """A trial that fails starts the count of successes anew, also when it opens the breaker only for a moment."""
    breaker, now = opened(), 1.0
    for _ in range(3):
        breaker.succeed(now, breaker.begin(now))
        assert breaker.state(now) is BreakerState.HALF_OPEN
        breaker.fail(now, breaker.begin(now))
        assert breaker.state(now) is BreakerState.OPEN
        now += SETTINGS.max_open_seconds
    breaker.succeed(now, breaker.begin(now))
    assert breaker.state(now) is BreakerState.HALF_OPEN
    breaker.succeed(now, breaker.begin(now))
    assert breaker.state(now) is BreakerState.CLOSED


def test_successes_of_one_absence_do_not_count_in_the_next() -> None:
    """After it has closed and opened again as many trials are wanted as the first time."""
    breaker = opened()
    for moment in (1.0, 1.1):
        breaker.succeed(moment, breaker.begin(moment))
    for _ in range(3):
        breaker.fail(2.0, breaker.begin(2.0))
    breaker.succeed(9.0, breaker.begin(9.0))
    assert breaker.state(9.0) is BreakerState.HALF_OPEN


def test_answers_that_take_longer_than_a_lease_close_it() -> None:
    """A trial that outlives its lease counts when it ends, and does not end the trial that has begun meanwhile."""
    breaker = opened()
    slow = breaker.begin(1.0)
    second = breaker.begin(6.0)
    breaker.succeed(7.0, slow)
    assert breaker.state(7.0) is BreakerState.HALF_OPEN
    assert not breaker.allows(7.0), "one trial at a time"
    breaker.succeed(12.0, second)
    assert breaker.state(12.0) is BreakerState.CLOSED


def test_a_late_trial_that_fails_opens_it() -> None:
    """A trial that outlived its lease began after the breaker opened: its failure is news."""
    breaker = opened()
    slow = breaker.begin(1.0)
    breaker.begin(6.0)
    assert breaker.fail(7.0, slow)
    assert breaker.state(7.0) is BreakerState.OPEN


def test_the_doubling_is_forgotten_after_a_while() -> None:
    """An endpoint that was well for a minute is out for the first time again; a moment after closing it is not."""
    settings = replace(SETTINGS, forget_seconds=60, successes_to_close=1, max_open_seconds=30)
    for well_for, seconds in ((1.0, 2.0), (61.0, 1.0)):
        breaker = Breaker(settings)
        for _ in range(3):
            breaker.fail(0, breaker.begin(0))
        breaker.succeed(1.0, breaker.begin(1.0))
        now = 1.0 + well_for
        for _ in range(3):
            breaker.fail(now, breaker.begin(now))
        assert not breaker.allows(now + seconds - 0.01)
        assert breaker.allows(now + seconds)


def test_what_is_back_gets_a_tenth_and_grows() -> None:
    """Half-open a tenth; from closing on all of it after the slow start; one that was never away has all."""
    breaker = Breaker(SETTINGS)
    assert breaker.share(0) == 1.0
    for _ in range(3):
        breaker.fail(0, breaker.begin(0))
    assert breaker.share(0.5) == 0.1
    for moment in (1.0, 1.0):
        breaker.succeed(moment, breaker.begin(moment))
    assert breaker.share(1.0) == 0.1
    assert breaker.share(6.0) == pytest.approx(0.5)
    assert breaker.share(11.0) == 1.0
    assert breaker.share(100.0) == 1.0


def test_what_asked_for_a_pause_comes_back_slowly_too() -> None:
    """From the end of a Retry-After on the share grows as from a closing."""
    breaker = Breaker(SETTINGS)
    breaker.defer(0, 10)
    assert not breaker.allows(9.9)
    assert breaker.share(10) == 0.1
    assert breaker.share(15) == pytest.approx(0.5)


def test_a_pause_holds_for_trials_too() -> None:
    """While half-open a Retry-After puts the next trial off."""
    breaker = opened()
    breaker.defer(0, 10)
    assert not breaker.allows(5)
    assert breaker.allows(10)


def test_retry_after_is_honoured_up_to_a_bound() -> None:
    """An upstream that asks for a pause gets it, but not for ever."""
    breaker = Breaker(SETTINGS)
    breaker.defer(0, 10)
    breaker.defer(0, 5)
    assert not breaker.allows(9.9)
    assert breaker.allows(10)
    breaker.defer(100, 1e9)
    assert breaker.allows(100 + SETTINGS.max_defer_seconds)


def test_what_belongs_to_an_earlier_absence_counts_no_more() -> None:
    """Each opening and each closing begins a phase of its own, with tickets that none before it had."""
    breaker = Breaker(BreakerSettings(threshold=1, open_seconds=1, max_open_seconds=1, successes_to_close=1))
    old: list[int] = []
    for at in (0.0, 100.0, 200.0):
        breaker.fail(at)
        old.append(breaker.begin(at + 10))
        assert breaker.succeed(at + 10, old[-1])
        assert [breaker.counts(ticket) for ticket in old] == [False] * len(old)
    assert len(set(old)) == 3


def test_between_two_trials_nobody_is_the_trial() -> None:
    """What fails then without a ticket is no trial, and opens nothing."""
    breaker = Breaker(BreakerSettings(threshold=1, open_seconds=1, successes_to_close=2))
    breaker.fail(0.0)
    assert not breaker.succeed(10.0, breaker.begin(10.0))
    assert not breaker.fail(10.0)
    assert breaker.state(10.0) is BreakerState.HALF_OPEN
