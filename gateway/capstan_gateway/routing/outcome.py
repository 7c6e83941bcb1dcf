"""How an attempt went, written down in the state of its endpoint."""

from collections.abc import Callable

from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.routing.retry import blames_endpoint, retry_after
from capstan_gateway.upstream.errors import DeadlineExceeded, UpstreamError

SERVER_ERROR = 500
KEY_REFUSED = frozenset((401, 403))
FULL = 429
FULL_SECONDS = 1.0
"""How long an endpoint is left alone, if there are others, that says 429 and not until when."""


def describe(error: UpstreamError) -> str:
    """Name an error in one word."""
    return f"{error.kind}-deadline" if isinstance(error, DeadlineExceeded) else type(error).__name__


def record_error(state: EndpointState, error: UpstreamError, now: float) -> None:
    """Take note of an attempt, or of an answer, that failed without a status."""
    state.last_error = describe(error)
    if blames_endpoint(error):
        state.breaker.fail(now)


def record_status(
    state: EndpointState,
    status: int,
    headers: list[tuple[bytes, bytes]],
    now: float,
    wall_clock: Callable[[], float],
    *,
    keyed: bool = False,
) -> bool:
    """Take note of an answer that began with this status, 400 or more; True when that is the endpoint's failure.

    Of an endpoint that has a key of its own, a refused key is its failure, and not the request's.
    """
    failed = status >= SERVER_ERROR or (keyed and status in KEY_REFUSED)
    if failed:
        state.last_error = str(status)
        state.breaker.fail(now)
    if status in (429, 503, 529):
        asked = retry_after(headers, wall_clock)
        if asked is None and status == FULL:
            asked = FULL_SECONDS
        if asked:
            state.breaker.defer(now, asked)
    return failed


def record_end(state: EndpointState, now: float) -> None:
    """Take note of an answer that nothing went wrong with, when it is over or when its client has gone.

    Only then: an endpoint that begins every answer well and breaks off in the middle must not look healthy.
    """
    state.breaker.succeed(now)
    state.last_error = None
