"""When which `min` holds."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from capstan_operator.api.scaling import Scaling
from capstan_operator.desired.faults import find_faults
from capstan_operator.scaling.schedules import fewest
from support.plainmodels import make_model

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = [
    {"cron": "0 8 * * MON-FRI", "timeZone": "Europe/Berlin", "min": 3},
    {"cron": "0 18 * * MON-FRI", "timeZone": "Europe/Berlin", "min": 0},
]


def _fewest(moment: str, schedules: list[dict[str, object]] = OFFICE) -> tuple[int, bool]:
    scaling = Scaling.model_validate({"min": 1, "max": 5, "schedules": schedules})
    return fewest(scaling, datetime.fromisoformat(moment).replace(tzinfo=BERLIN))


@pytest.mark.parametrize(
    ("moment", "least"),
    [
        ("2026-05-04T07:59:59", 0),
        ("2026-05-04T08:00:00", 3),
        ("2026-05-04T17:59:59", 3),
        ("2026-05-04T18:00:00", 0),
        ("2026-05-09T12:00:00", 0),
        ("2026-03-30T08:00:00", 3),
        ("2026-03-30T07:59:00", 0),
    ],
)
def test_the_schedule_that_has_begun_last_counts(moment: str, least: int) -> None:
    """To the minute, over the weekend, and on the first working day of summer time."""
    assert _fewest(moment) == (least, True)


@pytest.mark.parametrize(
    ("moment", "least"),
    [
        ("2026-10-25T00:29+00:00", 0),
        ("2026-10-25T00:30+00:00", 3),
        ("2026-10-25T01:00+00:00", 3),
        ("2026-10-25T01:29+00:00", 3),
        ("2026-10-25T01:30+00:00", 3),
    ],
)
def test_the_hour_that_comes_twice_takes_nothing_back(moment: str, least: int) -> None:
    """When clocks are turned back, what has begun in the first of the two hours goes on in the second."""
    nightly = [
        {"cron": "30 2 * * *", "timeZone": "Europe/Berlin", "min": 3},
        {"cron": "0 19 * * *", "timeZone": "Europe/Berlin", "min": 0},
    ]
    scaling = Scaling.model_validate({"min": 1, "max": 5, "schedules": nightly})
    assert fewest(scaling, datetime.fromisoformat(moment)) == (least, True)


def test_without_schedules_min_counts() -> None:
    """`min` is what holds where no schedule does."""
    assert _fewest("2026-05-04T12:00:00", []) == (1, False)


def test_of_two_that_begin_at_once_the_later_one_counts() -> None:
    """Their order in the manifest decides."""
    both: list[dict[str, object]] = [{"cron": "0 8 * * *", "min": 4}, {"cron": "0 8 * * *", "min": 2}]
    assert _fewest("2026-05-04T12:00:00", both) == (2, True)


@pytest.mark.parametrize(
    ("schedule", "path", "says"),
    [
        ({"cron": "61 8 * * *", "min": 1}, "spec.scaling.schedules[0].cron", "bad minute"),
        ({"cron": "0 8 31 2 *", "min": 1}, "spec.scaling.schedules[0].cron", "bad day-of-month"),
        ({"cron": "0 8 * * *", "timeZone": "Europe/Atlantis", "min": 1}, "spec.scaling.schedules[0].timeZone", "zone"),
    ],
)
def test_what_is_no_schedule_is_a_fault(schedule: dict[str, object], path: str, says: str) -> None:
    """What the patterns of the schema let pass is looked at by what will read it."""
    (fault,) = find_faults(make_model(scaling={"max": 5, "schedules": [schedule]}))
    assert (fault.field, says in fault.message) == (path, True)
