"""What policies in mode Shadow have spent within an hour."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.pipeline.guards.spending import LastHour


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 100)), max_size=30), st.integers(0, 8000))
def test_what_is_an_hour_ago_is_forgotten(spent: list[tuple[int, int]], more: int) -> None:
    """The sum has all of the last 59 minutes, and nothing that is older than an hour."""
    hour, now, all_of_it = LastHour(), 0.0, list[tuple[float, int]]()
    for seconds, nano in spent:
        now += seconds
        hour.add(nano, now)
        all_of_it.append((now, nano))
    now += more
    least = sum(nano for at, nano in all_of_it if at > now - 59 * 60)
    most = sum(nano for at, nano in all_of_it if at > now - 3600)
    assert least <= hour.sum(now) <= most
