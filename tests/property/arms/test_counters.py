"""Counters of arms add up exactly, in whatever order and parts they come."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.tracks import (
    BUCKETS,
    CELLS,
    MOST_VALUE,
    TIMED,
    Counters,
    ExperimentsReport,
    Quantity,
    bounds_of,
    cell_of,
    merge,
    quantile,
    read_experiments,
)
from capstan_gateway.arms.tally import Tally

Event = tuple[Quantity, int, int]
events = st.lists(
    st.tuples(st.sampled_from(Quantity), st.integers(0, BUCKETS - 1), st.integers(0, 1 << 34)), max_size=40
)


def _counted(values: list[Event]) -> Counters:
    tally = Tally()
    for quantity, bucket, value in values:
        tally.add(quantity, bucket, value)
    return tally.counters()


@given(events, events)
def test_the_order_of_two_does_not_matter(one: list[Event], other: list[Event]) -> None:
    """To merge counters is commutative."""
    assert merge(_counted(one), _counted(other)) == merge(_counted(other), _counted(one))


@given(events, events, events)
def test_the_order_of_three_does_not_matter(one: list[Event], other: list[Event], third: list[Event]) -> None:
    """To merge counters is associative, and counters of nothing change nothing."""
    a, b, c = _counted(one), _counted(other), _counted(third)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, Counters()) == a == merge(Counters(), a)


@given(events, events)
def test_two_replicas_count_what_one_would_have(one: list[Event], other: list[Event]) -> None:
    """What two replicas counted apart comes, merged, to what one would have counted that had all requests."""
    assert merge(_counted(one), _counted(other)) == _counted([*one, *other])


@given(events)
def test_what_is_said_is_what_was_counted(values: list[Event]) -> None:
    """Number, sum and sum of squares are those of the values, of all together and of each bucket's."""
    counters = _counted(values)
    for quantity in Quantity:
        mine = [(bucket, value) for one, bucket, value in values if one is quantity]
        measure = counters.of(quantity)
        assert measure.count == len(mine)
        assert measure.sum == sum(value for _, value in mine)
        assert measure.squares == sum(value * value for _, value in mine)
        assert {bucket: (count, total) for bucket, count, total in measure.buckets} == {
            bucket: (len(theirs), sum(theirs))
            for bucket in {bucket for bucket, _ in mine}
            for theirs in [[value for one, value in mine if one == bucket]]
        }
        assert sum(count for _, count in measure.cells) == (len(mine) if quantity in TIMED else 0)


@given(st.integers(0, MOST_VALUE))
def test_a_value_is_in_its_cell(value: int) -> None:
    """The cell of a value has it within its bounds, which are apart by at most a sixteenth."""
    low, high = bounds_of(cell_of(value))
    assert low <= value < high
    assert high - low == 1 or (high - low) * 16 <= low


@given(st.integers(0, CELLS - 2))
def test_cells_leave_no_gap(cell: int) -> None:
    """A cell ends where the next one begins."""
    assert bounds_of(cell)[1] == bounds_of(cell + 1)[0]


@given(st.lists(st.integers(1, MOST_VALUE), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_a_quantile_is_near_the_true_one(values: list[int], share: float) -> None:
    """A quantile out of the histogram lies within a sixteenth of a value below which that share is."""
    found = quantile(_counted([(Quantity.LATENCY, 0, value) for value in values]).of(Quantity.LATENCY), share)
    assert found is not None
    rank = min(len(values) - 1, max(0, -int(-share * len(values) // 1) - 1))
    near = sorted(values)[max(0, rank - 1) : rank + 2]
    assert min(near) * 15 / 16 <= found <= max(near) * 17 / 16


@given(events)
def test_a_page_is_read_as_it_was_written(values: list[Event]) -> None:
    """Counters come through JSON as they were, however large their numbers are."""
    page = ExperimentsReport(
        boot="b", experiments=({"router": "n/r", "arms": ({"member": "n/a", "counters": _counted(values)},)},)
    )  # type: ignore[arg-type]
    assert read_experiments(page.model_dump_json()) == page
