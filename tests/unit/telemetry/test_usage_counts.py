"""Who has used how much: sums that lose nothing, and bounds."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.telemetry.usage_counts import (
    COUNTERS,
    NAMES,
    OTHER,
    Row,
    Rows,
    UsageCounts,
    add_up,
    days_between,
    grouped,
)
from capstan_gateway.tokens.bill import ESTIMATED, TOLD, Bill
from capstan_gateway.tokens.usage import Usage

DAY = "2026-11-29"
LETTERS = st.sampled_from("abc")
ROWS = st.dictionaries(
    st.builds(Row, st.sampled_from(["d1", "d2"]), LETTERS, LETTERS, LETTERS, LETTERS),
    st.lists(st.integers(0, 2**60), min_size=len(COUNTERS), max_size=len(COUNTERS)),
    max_size=12,
)


def bill_of(*calls: tuple[str, Usage, int | None]) -> Bill:
    """Give a bill of these calls."""
    bill = Bill()
    for model, usage, nano in calls:
        bill.add(usage, TOLD, nano, model=model)
    return bill


def sums(*rows: Rows) -> list[int]:
    """Give all that was counted."""
    return [sum(numbers[place] for some in rows for numbers in some.values()) for place in range(len(COUNTERS))]


def test_a_request_is_counted_for_who_asked() -> None:
    """Its tokens, its cached tokens and its money, under the model that answered; what was taken is counted anew."""
    counts = UsageCounts(most=10, today=lambda: DAY)
    counts.note("t", "g", "u", "m", bill_of(("m", Usage(10, 5, cached_tokens=4), 7)))
    counts.note("t", "g", "u", "m", bill_of(("m", Usage(1, 2), 3)))
    assert counts.take() == {Row(DAY, "t", "g", "u", "m"): [2, 11, 4, 7, 10, 0]}
    assert counts.take() == {}


def test_calls_are_counted_for_the_model_that_was_called() -> None:
    """The request is one of the model that answered; what others used for it is theirs."""
    counts = UsageCounts(most=10, today=lambda: DAY)
    bill = bill_of(("judge", Usage(1, 1), 5), ("small", Usage(2, 2), None))
    bill.add(Usage(3, 3), ESTIMATED, 9, model="large")
    counts.note("t", "", "", "large", bill)
    assert counts.take() == {
        Row(DAY, "t", "", "", "judge"): [0, 1, 0, 1, 5, 0],
        Row(DAY, "t", "", "", "small"): [0, 2, 0, 2, 0, 0],
        Row(DAY, "t", "", "", "large"): [1, 3, 0, 3, 9, 1],
    }


def test_what_has_no_price_is_counted_as_that() -> None:
    """Once a request, whatever the number of its calls: what it costs is not nothing, but unknown."""
    counts = UsageCounts(most=10, today=lambda: DAY)
    counts.note("t", "", "", "m", bill_of(("m", Usage(1, 1), None), ("m", Usage(1, 1), None), ("m", Usage(1, 1), 4)))
    assert counts.take() == {Row(DAY, "t", "", "", "m"): [1, 3, 0, 3, 4, 1]}


def test_a_day_ends() -> None:
    """What is counted behind a look at the clock is of the day that it was then."""
    days = iter(["d1", "d2", "d3"])
    counts = UsageCounts(most=10, today=lambda: next(days))
    counts.note("t", "", "", "m", bill_of(("m", Usage(1, 0), 0)))
    assert [row.day for row in counts.take()] == ["d1"]
    counts.note("t", "", "", "m", bill_of(("m", Usage(1, 0), 0)))
    assert [row.day for row in counts.take()] == ["d2"]


@given(st.lists(st.tuples(LETTERS, LETTERS, LETTERS, LETTERS, st.integers(0, 99)), max_size=20), st.integers(1, 4))
def test_nothing_is_lost_where_there_is_no_room(asked: list[tuple[str, str, str, str, int]], most: int) -> None:
    """Beyond the bound requests are counted as those of others: there are never more rows, and the sums are whole."""
    counts = UsageCounts(most=most, today=lambda: DAY)
    for tenant, team, user, model, tokens in asked:
        counts.note(tenant, team, user, model, bill_of((model, Usage(tokens, 1), 2)))
    rows = counts.take()
    assert len(rows) <= most + 1
    total = sum(one[4] for one in asked)
    assert sums(rows) == [len(asked), total, 0, len(asked), 2 * len(asked), 0]


@given(st.lists(ROWS, max_size=4), st.none() | st.integers(0, 5))
def test_sums_are_whole_however_rows_are_put_together(parts: Sequence[Rows], most: int | None) -> None:
    """Added up, bounded or not, and grouped by whatever names: every number is there once."""
    rows: Rows = {}
    for part in parts:
        add_up(rows, part, most=most)
    assert sums(rows) == sums(*parts)
    if most is not None:
        for day in ("d1", "d2"):
            assert sum(row.day == day and row.tenant != OTHER for row in rows) <= most
    for by in ((), ("tenant",), ("day", "model"), NAMES):
        found = grouped(rows, by)
        assert [sum(numbers[place] for numbers in found.values()) for place in range(len(COUNTERS))] == sums(rows)
        assert list(found) == sorted(found)


def test_days_are_read_and_bounded() -> None:
    """Each day once, over the ends of months; what is none, the wrong way round or too many is refused."""
    assert days_between("2026-02-27", "2026-03-01", most=9) == ["2026-02-27", "2026-02-28", "2026-03-01"]
    for first, last, said in [("x", DAY, "such as"), ("2026-13-01", DAY, "such as"), (DAY, "2026-11-28", "at most 9")]:
        with pytest.raises(ValueError, match=said):
            days_between(first, last, most=9)
    with pytest.raises(ValueError, match="at most 9 days"):
        days_between("2026-11-01", "2026-11-10", most=9)
