"""From what went wrong to what follows from it: for the endpoint, for another attempt, for another model.

The only place that decides it, and pure: whoever acts on a verdict has the budget, the deadline and the endpoints.

                                              its endpoint   another endpoint   another model
    nothing was sent: no connection           failed         at once, free      yes
    our own connection limit, a missing key                  at once, free      yes
    lost or broken off, not HTTP, nonsense    failed         budget             yes
    first token late, silent for too long     failed         budget             yes
    the total deadline (a plain answer's one)                no                 no
    larger than we read                                      no                 yes
    429                                       left alone     budget             yes
    500, 502, 503, 504, 529                   failed         budget             yes
    another 5xx                               failed         no                 yes
    401, 403 among keys                       failed         budget             no
    408                                                      no                 yes
    too long a prompt                                        no                 one with a larger window
    any other 4xx, a guard's block                           no                 no
    a guard that could not check, or engines died of it                         no

A request that is not repeatable goes nowhere else once it was sent, whatever became of it. A member of a cascade is
another model. Everything here is about requests of whose answer nothing has reached the client.
"""

from enum import Enum
from typing import Final

from capstan_gateway.errors import (
    AnswerNotChecked,
    GatewayError,
    GuardUnavailable,
    InvalidRequest,
    NotCached,
    RequestPoisoned,
    UpstreamRejected,
)
from capstan_gateway.routing.unroutable import KeyMissing
from capstan_gateway.upstream.errors import (
    BodyTooLarge,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineKind,
    TooManyConnections,
    UpstreamError,
)

CLIENT_ERROR: Final = 400
SERVER_ERROR: Final = 500
REQUEST_TIMEOUT: Final = 408
FULL: Final = 429
CONTEXT_LENGTH: Final = "context_length_exceeded"
CONTENT_FILTER: Final = "content_filter"
_KEY_REFUSED: Final = frozenset((401, 403))
_RETRIED: Final = frozenset((FULL, 500, 502, 503, 504, 529))
"""What another endpoint may answer better. Other statuses are about the request, or about nothing that changes."""
_RETRIED_WITH_KEYS: Final = _RETRIED | _KEY_REFUSED
"""The same among endpoints that have a key each: one that refuses its key is no better than one that fails."""
_REFUSALS: Final = frozenset((400, 404, 413, 422))


class Again(Enum):
    """Whether a failed attempt may be repeated."""

    FREELY = "freely"
    """It was never sent: another endpoint at once, and the retry budget is not touched."""
    BUDGETED = "budgeted"
    """It may have made an engine work: only on another endpoint, and only with the budget's consent."""
    NEVER = "never"


class Elsewhere(Enum):
    """Which other models may answer instead of one that failed."""

    NOWHERE = "nowhere"
    LARGER_WINDOW = "larger-window"
    """Those that take more tokens."""
    ANYWHERE = "anywhere"


# --- the endpoint -----------------------------------------------------------------------------------------------------


def describe(error: UpstreamError) -> str:
    """Name an error in one word."""
    return f"{error.kind}-deadline" if isinstance(error, DeadlineExceeded) else type(error).__name__


def blames_endpoint(error: UpstreamError) -> bool:
    """Whether the breaker counts this error. Our own limits and the request's total deadline are not its fault."""
    return not (isinstance(error, TooManyConnections | BodyTooLarge | KeyMissing) or is_out_of_time(error))


def status_blames_endpoint(status: int, *, keyed: bool) -> bool:
    """Whether the breaker counts an answer with this status; `keyed`: the endpoints have a key each."""
    return status >= SERVER_ERROR or (keyed and status in _KEY_REFUSED)


def is_nonsense(status: int, error: BaseException) -> bool:
    """Whether an answer that began with this status was none, in the eyes of who read it and raised this."""
    return status < CLIENT_ERROR and isinstance(error, GatewayError) and error.status >= SERVER_ERROR


# --- another attempt at the same model --------------------------------------------------------------------------------


def another_attempt(error: UpstreamError, *, repeatable: bool = True) -> Again:
    """Say whether an attempt that ended with this error may be repeated."""
    if not error.sent:
        return Again.FREELY
    if not repeatable or isinstance(error, BodyTooLarge):
        return Again.NEVER
    return Again.NEVER if is_out_of_time(error) else Again.BUDGETED


def status_is_retried(status: int, *, keyed: bool, repeatable: bool = True) -> bool:
    """Whether another endpoint should be asked instead of giving an answer with this status."""
    return status >= CLIENT_ERROR and repeatable and status in (_RETRIED_WITH_KEYS if keyed else _RETRIED)


def another_reading(status: int, error: BaseException, *, repeatable: bool = True) -> Again:
    """Say the same of an answer that had begun with this status, when reading it raised this."""
    if isinstance(error, UpstreamError):
        # It had begun, so whatever the error says of itself, it was sent.
        verdict = another_attempt(error, repeatable=repeatable)
        return Again.NEVER if verdict is Again.FREELY else verdict
    return Again.BUDGETED if repeatable and is_nonsense(status, error) else Again.NEVER


def same_endpoint_may_do(error: UpstreamError) -> bool:
    """Whether the same endpoint is worth another try a moment later: it was not there, it did not fail."""
    return not error.sent or isinstance(error, ConnectionLost)


# --- another model ----------------------------------------------------------------------------------------------------


def another_model(error: Exception, *, spent: bool = False) -> Elsewhere:
    """Say which models may answer after this error: a fallback, another member of a router or of a cascade.

    None after the request's own fault, a guard's block, or when its time is up. `spent` says that the request was sent
    to an engine and is not repeatable.
    """
    if spent:
        return Elsewhere.NOWHERE
    if isinstance(error, GatewayError):
        if isinstance(error, GuardUnavailable | AnswerNotChecked | NotCached | RequestPoisoned):
            return Elsewhere.NOWHERE  # Another model may be without that guard, or that cache; or die of it as well.
        if error.code == CONTEXT_LENGTH:
            return Elsewhere.LARGER_WINDOW
        goes_on = error.status >= SERVER_ERROR or error.status in (REQUEST_TIMEOUT, FULL)
        return Elsewhere.ANYWHERE if goes_on else Elsewhere.NOWHERE
    return Elsewhere.NOWHERE if is_out_of_time(error) else Elsewhere.ANYWHERE


def is_out_of_time(error: Exception) -> bool:
    """Whether the request's total deadline has passed."""
    return isinstance(error, DeadlineExceeded) and error.kind is DeadlineKind.TOTAL


def cannot_take(error: Exception, *, routed: bool) -> bool:
    """Whether a model refuses a request that another one may take. A guard's block is never such a refusal."""
    if not isinstance(error, UpstreamRejected | InvalidRequest) or error.status not in _REFUSALS:
        return False
    return error.code != CONTENT_FILTER and not (routed and error.code == CONTEXT_LENGTH)
