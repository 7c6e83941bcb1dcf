"""When budgets begin anew: by the calendar of their time zone, through changes of the clocks."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.limits import Period, PeriodType
from capstan_gateway.pipeline.limits.periods import starts_of


def at(text: str, zone: str = "UTC") -> int:
    """Give a time as Unix milliseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("kind", "zone", "now", "starts"),
    [
        (PeriodType.DAY, "UTC", "2026-11-29T23:59:59.999", ("2026-11-28", "2026-11-29", "2026-11-30", "2026-12-01")),
        (PeriodType.DAY, "UTC", "2026-11-30T00:00:00", ("2026-11-29", "2026-11-30", "2026-12-01", "2026-12-02")),
        # The nights in which clocks are set: days of 23 and of 25 hours.
        (PeriodType.DAY, "Europe/Berlin", "2026-03-29T12:00", ("2026-03-28", "2026-03-29", "2026-03-30", "2026-03-31")),
        (PeriodType.DAY, "Europe/Berlin", "2026-10-25T12:00", ("2026-10-24", "2026-10-25", "2026-10-26", "2026-10-27")),
        (PeriodType.WEEK, "Asia/Tokyo", "2026-11-29T12:00", ("2026-11-16", "2026-11-23", "2026-11-30", "2026-12-07")),
        (PeriodType.WEEK, "UTC", "2026-11-30T00:00", ("2026-11-23", "2026-11-30", "2026-12-07", "2026-12-14")),
        (PeriodType.MONTH, "US/Eastern", "2026-12-31T23:00", ("2026-11-01", "2026-12-01", "2027-01-01", "2027-02-01")),
        (PeriodType.MONTH, "UTC", "2027-01-01T00:00", ("2026-12-01", "2027-01-01", "2027-02-01", "2027-03-01")),
    ],
)  # fmt: skip
def test_periods_of_the_calendar(kind: PeriodType, zone: str, now: str, starts: tuple[str, ...]) -> None:
    """The one before, the one under way, and two behind it: each begins at midnight there."""
    found = starts_of(Period(type=kind, timeZone=zone), at(now, zone))
    assert found == tuple(at(start, zone) for start in starts)


def test_a_day_whose_midnight_is_skipped_begins_when_clocks_go_on() -> None:
    """In Santiago clocks go from 00:00 to 01:00 on a Sunday of September."""
    period = Period(type=PeriodType.DAY, timeZone="America/Santiago")
    noon = at("2026-09-06T12:00", "America/Santiago")
    begun = starts_of(period, noon)[1]
    assert datetime.fromtimestamp(begun / 1000, UTC) == datetime(2026, 9, 6, 4, tzinfo=UTC)


def test_durations_are_counted_from_1970() -> None:
    """Every gateway finds the same ones."""
    period = Period(type=PeriodType.DURATION, millis=12 * 3_600_000)
    found = starts_of(period, at("2026-11-29T13:00"))
    assert found == tuple(
        at(text) for text in ("2026-11-29T00:00", "2026-11-29T12:00", "2026-11-30", "2026-11-30T12:00")
    )


ZONES = ("UTC", "Europe/Berlin", "America/Santiago", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe")
CALENDAR = (PeriodType.DAY, PeriodType.WEEK, PeriodType.MONTH)
PERIODS = st.one_of(
    st.builds(Period, type=st.sampled_from(CALENDAR), timeZone=st.sampled_from(ZONES)),
    st.builds(Period, type=st.just(PeriodType.DURATION), millis=st.integers(1000, 366 * 86_400_000)),
)  # fmt: skip


@given(PERIODS, st.integers(at("2020-01-01"), at("2037-01-01")))
def test_the_second_period_is_under_way(period: Period, now: int) -> None:
    """At any time, in any zone; and what is told at the beginning of the next one fits to it."""
    found = starts_of(period, now)
    assert list(found) == sorted(set(found))
    assert found[1] <= now < found[2]
    assert starts_of(period, found[2])[:2] == found[1:3]
