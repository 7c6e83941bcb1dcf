"""The fewest replicas at a moment: what the schedule says that has begun last, else what `min` says."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from capstan_operator.api.scaling import Scaling
from capstan_operator.resources.resource import Fault

_MINUTE_STEP: Final = 60
_DAY: Final = 24 * 60


def fewest(scaling: Scaling, now: datetime) -> tuple[int, bool]:
    """Give the fewest replicas, and whether a schedule says so. `now` must have a time zone.

    Of two that begin at the same moment the later one in the manifest counts.
    """
    begun = [
        (at, index, one.min)
        for index, one in enumerate(scaling.schedules)
        if (at := last_begin(one.cron, one.timeZone or "UTC", now)) is not None
    ]
    return (max(begun)[2], True) if begun else (scaling.min, False)


def last_begin(cron: str, zone: str, now: datetime) -> datetime | None:
    """Give when a schedule has begun last, in UTC; None when it never has, or cannot be read."""
    minute = int(now.timestamp()) // _MINUTE_STEP
    return _last_begin(cron, zone, minute)


@lru_cache(maxsize=4096)
def _last_begin(cron: str, zone: str, minute: int) -> datetime | None:
    end = (minute + 1) * _MINUTE_STEP
    try:
        place = ZoneInfo(zone)
        # NB: going back begins before the moment that it is given: that of the next minute, so that this one counts.
        starts = [datetime.fromtimestamp(end, place)]
        # NB: in an hour that comes twice the clock on the wall has shown more the first time than it shows now.
        if (turned := _before_turned_back(place, minute + 1)) <= minute:
            starts.append(datetime.fromtimestamp(turned * _MINUTE_STEP, place) + timedelta(minutes=1))
        found = [next(CronSim(cron, start, reverse=True), None) for start in starts]
    except (CronSimError, ValueError, OSError, LookupError):
        return None
    begun = [one.astimezone(UTC) for one in found if one is not None and one.timestamp() < end]
    return max(begun, default=None)


def _before_turned_back(place: ZoneInfo, minute: int) -> int:
    """Give the last minute before clocks were turned back within a day; the minute itself where they were not."""
    early, late = minute - _DAY, minute
    if _offset(place, early) <= _offset(place, late):
        return minute
    while late - early > 1:
        between = (early + late) // 2
        if _offset(place, between) > _offset(place, minute):
            early = between
        else:
            late = between
    return early


def _offset(place: ZoneInfo, minute: int) -> timedelta:
    return datetime.fromtimestamp(minute * _MINUTE_STEP, place).utcoffset() or timedelta()


def find_schedule_faults(scaling: Scaling) -> Iterator[Fault]:
    """Look for expressions and time zones that are none."""
    for index, one in enumerate(scaling.schedules):
        path = f"spec.scaling.schedules[{index}]"
        try:
            CronSim(one.cron, datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            yield Fault(f"{path}.cron", f"must be five fields of cron, such as 0 8 * * MON-FRI: {_plain(error)}")
        try:
            ZoneInfo(one.timeZone or "UTC")
        except (ValueError, OSError, LookupError):
            yield Fault(f"{path}.timeZone", "must be the name of a time zone, such as Europe/Berlin")


def _plain(error: CronSimError) -> str:
    return str(error)[:1].lower() + str(error)[1:]
