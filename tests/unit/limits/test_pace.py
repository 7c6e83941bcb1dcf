"""How a Rate becomes whole numbers that a double holds."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.limits import MOST_AMOUNT, MOST_WINDOW_MILLIS
from capstan_gateway.limits.memory import MemoryLimitStore
from capstan_gateway.limits.pace import MOST_LEVEL, Pace, pace_of
from capstan_gateway.limits.port import Outcome, Rate
from support.limits import Clock, at_once, charge

SECONDS = st.integers(1, MOST_WINDOW_MILLIS // 1000).map(lambda seconds: seconds * 1000)
WINDOWS = st.one_of(st.integers(1, MOST_WINDOW_MILLIS), SECONDS, st.sampled_from([60_000, 3_600_000, 86_400_000]))
UNITS = st.one_of(st.integers(1, MOST_AMOUNT), st.integers(1, 1_000), st.sampled_from([MOST_AMOUNT, MOST_AMOUNT - 1]))
RATES = st.builds(Rate, amount=UNITS, window_ms=WINDOWS, capacity=UNITS)


@given(RATES)
def test_never_faster_than_the_rule_and_hardly_slower(rate: Rate) -> None:
    """What comes in is exact where ticks fit, else less by at most one part of two thousand, for every allowed rule."""
    pace = pace_of(rate)
    assert pace.full == rate.capacity * pace.unit <= MOST_LEVEL
    given, asked = pace.gain * rate.window_ms, rate.amount * pace.unit * pace.tick_ms
    assert given <= asked
    assert asked - given <= asked // 2_000
    if pace.tick_ms == 1:
        assert given == asked


@given(RATES)
def test_ticks_are_short(rate: Rate) -> None:
    """Within a tick at most one part of a thousand of a window goes by, or a millisecond."""
    assert pace_of(rate).tick_ms <= max(rate.window_ms // 1_000, 1)


@pytest.mark.parametrize(
    ("rate", "pace"),
    [
        (Rate(60, 60_000, 60), Pace(gain=1, unit=1_000, tick_ms=1, full=60_000)),
        (Rate(10**12, 86_400_000, 10**12), Pace(gain=312_500, unit=27, tick_ms=1, full=27 * 10**12)),
        (Rate(10**12 - 1, 60_000, 10**12), Pace(gain=10**12 - 1, unit=2_000, tick_ms=30, full=2_000 * 10**12)),
    ],
)
def test_some_paces(rate: Rate, pace: Pace) -> None:
    """Usual limits go by the millisecond, odd ones of the largest size by ticks of which a window has whole ones."""
    assert pace_of(rate) == pace


@given(RATES, st.integers(1, MOST_AMOUNT), st.integers(0, 10**9))
def test_a_retry_is_admitted_when_it_was_told_and_not_before(rate: Rate, amount: int, millis: int) -> None:
    """After `wait_ms` it is admitted, one millisecond before it is not."""
    amount = min(amount, rate.capacity)
    clock = Clock()
    store = MemoryLimitStore(clock)
    at_once(store.reserve("all", [charge(rate, rate.capacity)]))
    at_once(store.settle("policy", "all", (rate.capacity,)))
    clock.step(millis)
    verdict = at_once(store.reserve("a", [charge(rate, amount)]))
    if verdict.admitted:
        return
    assert (verdict.outcome, verdict.denied) == (Outcome.WAIT, 0)
    tick = pace_of(rate).tick_ms
    assert 0 < verdict.wait_ms <= ceil(amount * rate.window_ms / rate.amount * 1.001) + 2 * tick
    clock.step(verdict.wait_ms - 1)
    assert at_once(store.reserve("b", [charge(rate, amount)])).wait_ms == 1
    clock.step(1)
    assert at_once(store.reserve("c", [charge(rate, amount)])).admitted


@pytest.mark.parametrize("rate", [Rate(0, 1, 1), Rate(1, 0, 1), Rate(1, 1, 0), Rate(1, 1, 2**51 + 1)])
def test_numbers_out_of_bounds_are_refused(rate: Rate) -> None:
    """A rule that no arithmetic holds is said to be wrong, with what is allowed."""
    with pytest.raises(ValueError, match="above 0 and at most"):
        pace_of(rate)
