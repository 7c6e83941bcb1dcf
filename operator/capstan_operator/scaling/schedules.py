"""The fewest replicas at a moment: what the schedule says that has begun last, else what `min` says."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from capstan_operator.api.scaling import Scaling
from capstan_operator.resources.resource import Fault

_MINUTE_STEP = 60


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
    now = datetime.fromtimestamp((minute + 1) * _MINUTE_STEP, UTC)
    try:
        # NB: going back begins before the moment that it is given: that of the next minute, so that this one counts.
        return next(CronSim(cron, now.astimezone(ZoneInfo(zone)), reverse=True)).astimezone(UTC)
    except (CronSimError, StopIteration, ValueError, OSError, LookupError):
        return None


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
