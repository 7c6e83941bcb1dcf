"""Which of two endpoints is better: load, weighed with latency."""

import pytest

from capstan_gateway.routing.picker import LATENCY_WEIGHT, better, candidates, load_bound
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.upstream.port import Endpoint


def two(first: float | None, second: float | None, *, loads: tuple[int, int] = (0, 0)) -> tuple[EndpointState, ...]:
    """Two endpoints with these times to a first token, known now, and so many requests in flight."""
    states = tuple(EndpointState(Endpoint(f"e{number}", "127.0.0.1", 1000 + number)) for number in range(2))
    for state, latency, load in zip(states, (first, second), loads, strict=True):
        state.in_flight = load
        if latency is not None:
            state.observe(latency, 0.0)
    return states


def test_latency_decides_between_idle_endpoints() -> None:
    """Of two that do nothing the quicker one is asked, whichever of them was drawn first."""
    quick, slow = two(0.1, 0.3)
    assert better(quick, slow, 0.0) is quick
    assert better(slow, quick, 0.0) is quick


def test_load_decides_between_equally_quick_ones() -> None:
    """And where nobody knows how quick one of them is."""
    for times in ((0.2, 0.2), (None, 0.2), (0.2, None), (None, None)):
        idle, busy = two(*times, loads=(0, 1))
        assert better(idle, busy, 0.0) is idle
        assert better(busy, idle, 0.0) is idle


def test_latency_weighs_no_more_than_four_times() -> None:
    """A hundred times slower and idle is better than quick with five in flight, and worse than quick with two."""
    for load, wanted in ((LATENCY_WEIGHT + 1, 1), (2, 0)):
        states = two(0.1, 10.0, loads=(int(load), 0))
        assert better(*states, 0.0) is states[wanted]


def test_differences_below_ten_milliseconds_are_noise() -> None:
    """Then the load decides."""
    first, second = two(0.001, 0.009, loads=(1, 0))
    assert better(first, second, 0.0) is second


def test_a_latency_that_nobody_has_seen_for_long_decides_nothing() -> None:
    """After a while the average says nothing any more."""
    slow, quick = two(5.0, 0.1, loads=(0, 1))
    assert better(slow, quick, 0.0) is quick
    assert better(slow, quick, 31.0) is slow


def test_the_last_one_is_never_ejected() -> None:
    """Without one whose breaker is closed, all that are left are candidates."""
    first, second = two(None, None)
    for _ in range(3):
        first.breaker.fail(0.0)
    assert candidates((first, second), 0.0) == [second]
    assert candidates((first, second), 0.0, {second}) == [first]
    assert candidates((first, second), 0.0, {first, second}) == []


@pytest.mark.parametrize(("loads", "bound"), [((0, 0), 4), ((3, 4), 5), ((10, 10), 14)])
def test_the_bound_of_load(loads: tuple[int, int], bound: int) -> None:
    """A quarter more than the fair share of what would be in flight then; four are no load."""
    assert load_bound(two(None, None, loads=loads)) == bound
