"""What holds of schedules whatever clocks do."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.scaling.schedules import last_begin

CRONS = ("30 2 * * *", "0 2 * * *", "*/20 * * * *", "15 1 * * *", "45 1-3 * * *", "0 19 * * *", "30 * * * *")
TURNS = (
    ("Europe/Berlin", datetime(2026, 10, 25, 0, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 3, 29, 0, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 5, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 14, tzinfo=UTC)),
)
"""Zones, and an hour before the clocks there are turned."""


@given(st.sampled_from(TURNS), st.sampled_from(CRONS), st.integers(1, 30))
def test_a_schedule_never_goes_back(turn: tuple[str, datetime], cron: str, step: int) -> None:
    """What has begun has begun, in the hour that comes twice in autumn and around the one that spring leaves out."""
    zone, begin = turn
    last = begin - timedelta(days=2)
    for minutes in range(0, 240, step):
        now = begin + timedelta(minutes=minutes)
        found = last_begin(cron, zone, now)
        assert found is not None
        assert last <= found <= now
        last = found
