"""When an upstream asks to be left alone, and for how long."""

from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime

from capstan_gateway.headers import Header


def retry_after(headers: Sequence[Header], wall_clock: Callable[[], float]) -> float | None:
    """Read how many seconds an upstream asks to be left alone: retry-after-ms, or retry-after in either form."""
    found = dict(headers)
    for name, scale in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        value = found.get(name)
        if value is None or len(value) > 64:
            continue
        seconds = _number(value)
        if seconds is None and scale == 1.0:
            seconds = _until(value, wall_clock())
        if seconds is not None and 0 <= seconds < float("inf"):
            return seconds * scale
    return None


def _number(value: bytes) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _until(value: bytes, now: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(value.decode("latin-1")).timestamp() - now)
    except (ValueError, OverflowError):
        return None
