"""When the periods of a budget begin: by the calendar of its time zone, or by multiples of a duration. Pure."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from capstan_contract.limits import Period, PeriodType


def starts_of(period: Period, now_ms: int) -> tuple[int, ...]:
    """Give in Unix milliseconds, ascending, the period before the one under way, that one, and two behind it."""
    if period.type is PeriodType.DURATION:
        under_way = now_ms // period.millis
        return tuple((under_way + step) * period.millis for step in (-1, 0, 1, 2))
    zone = _zone(period.timeZone)
    today = datetime.fromtimestamp(now_ms / 1000, zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    return tuple(_unix_ms(_day(period.type, today, step), zone) for step in (-1, 0, 1, 2))


def _day(kind: PeriodType, today: datetime, step: int) -> datetime:
    if kind is PeriodType.DAY:
        return today + timedelta(days=step)
    if kind is PeriodType.WEEK:
        return today + timedelta(days=7 * step - today.weekday())
    months = today.year * 12 + today.month - 1 + step
    return datetime(months // 12, months % 12 + 1, 1)


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _unix_ms(day: datetime, zone: ZoneInfo) -> int:
    """Give when a day begins; where clocks skip its midnight, that is when they go on."""
    return int(day.replace(tzinfo=zone).astimezone(UTC).timestamp() * 1000)
