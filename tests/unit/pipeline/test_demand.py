"""How fast counts grow, as whoever decides about replicas reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.demand import DEMAND_SECONDS
from capstan_gateway.pipeline.demand import Rate


def test_a_steady_rate_is_told_in_the_end() -> None:
    """What grows by ten a second for long is told as ten a second."""
    rate = Rate(0, 0.0)
    for second in range(1, int(10 * DEMAND_SECONDS)):
        rate.take(10.0 * second, float(second))
    assert rate.per_second == pytest.approx(10.0, rel=0.01)


def test_it_fades() -> None:
    """What has stopped is told as less and less, by a third or so after the time constant."""
    rate = Rate(0, 0.0)
    rate.take(1000.0, DEMAND_SECONDS)
    before = rate.per_second
    rate.take(1000.0, 2 * DEMAND_SECONDS)
    assert rate.per_second == pytest.approx(before * 0.3679, rel=0.01)


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 100)), max_size=20))
def test_no_rate_is_below_zero(taken: list[tuple[float, float]]) -> None:
    """A count that has become less is another one's, and begins anew; time that stands still changes nothing."""
    rate, now = Rate(0, 0.0), 0.0
    for total, seconds in taken:
        now += seconds
        rate.take(total, now)
        assert 0.0 <= rate.per_second < float("inf")
