"""What a failure means: for the endpoint's breaker, and for whether the request may go to another endpoint.

Everything here is about attempts of which nothing has reached the client.
"""

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final

from capstan_gateway.routing.errors import KeyMissing
from capstan_gateway.upstream.errors import (
    BodyTooLarge,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineKind,
    TooManyConnections,
    UpstreamError,
)

RETRIED_STATUSES: Final = frozenset((429, 500, 502, 503, 504, 529))
"""What another endpoint may answer better. Other statuses are about the request, or about nothing that changes."""
RETRIED_WITH_KEYS: Final = RETRIED_STATUSES | {401, 403}
"""The same among endpoints that have a key each: one that refuses its key is no better than one that fails."""


class Again(Enum):
    """Whether a failed attempt may be repeated."""

    FREELY = "freely"
    """It was never sent: another endpoint at once, and the retry budget is not touched."""
    BUDGETED = "budgeted"
    """It may have made an engine work: only on another endpoint, and only with the budget's consent."""
    NEVER = "never"


def judge(error: UpstreamError) -> Again:
    """Say whether an attempt that ended with this error may be repeated."""
    if isinstance(error, DeadlineExceeded) and error.kind is DeadlineKind.TOTAL:
        return Again.NEVER
    if isinstance(error, BodyTooLarge):
        return Again.NEVER
    return Again.BUDGETED if error.sent else Again.FREELY


def may_wait(error: UpstreamError) -> bool:
    """Whether the same endpoint is worth another try a moment later: it was not there, it did not fail."""
    return not error.sent or isinstance(error, ConnectionLost)


def blames_endpoint(error: UpstreamError) -> bool:
    """Whether the breaker counts this error. Our own limits and the request's total deadline are not its fault."""
    if isinstance(error, DeadlineExceeded):
        return error.kind is not DeadlineKind.TOTAL
    return not isinstance(error, TooManyConnections | BodyTooLarge | KeyMissing)


def retry_after(headers: list[tuple[bytes, bytes]], wall_clock: Callable[[], float]) -> float | None:
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
