"""The one place where what went wrong becomes what the client is told."""

import logging
from typing import Final

from capstan_contract.config import StartFailure
from capstan_gateway.errors import OUT_OF_TIME, GatewayError, ModelNotReady, Overloaded, UpstreamFailed, UpstreamTimeout
from capstan_gateway.headers import retry_after_headers
from capstan_gateway.routing.unroutable import (
    CannotStart,
    KeyMissing,
    NoCredential,
    NoEndpoint,
    QueueRefused,
    RoutingError,
    TooManyWaiting,
)
from capstan_gateway.upstream.errors import (
    BodyTooLarge,
    ConnectFailed,
    DeadlineExceeded,
    DeadlineKind,
    NoMemory,
    UpstreamError,
)

START_FAILED: Final = "model_start_failed"
"""The code where no replica of the model comes up."""

log = logging.getLogger(__name__)

_DEADLINES = {
    DeadlineKind.CONNECT: "the model's engine did not accept a connection in time",
    DeadlineKind.FIRST_TOKEN: "the model did not begin to answer in time",
    DeadlineKind.IDLE: "the model stopped answering",
    DeadlineKind.TOTAL: OUT_OF_TIME,
}
_NO_KEY = "the gateway has no credentials for this hosted model"


def to_gateway_error(error: Exception, *, request_id: str) -> GatewayError:
    """Give the error to answer with. What is not a domain error is a bug: it is logged with its traceback."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, RoutingError):
        return _of_routing(error)
    if isinstance(error, UpstreamError):
        return _of_upstream(error)
    log.error("request failed with a bug", exc_info=error, extra={"request_id": request_id})
    return GatewayError("the gateway failed; the request id says where to look in its log")


def _of_routing(error: RoutingError) -> GatewayError:
    headers = retry_after_headers(error.retry_after)
    if isinstance(error, TooManyWaiting):
        return GatewayError(
            "too many requests wait for this model",
            status=429, type="requests", code="rate_limit_exceeded", headers=headers,
        )  # fmt: skip
    if isinstance(error, QueueRefused):
        if error.full:
            message, code = "the queue of this model is full", "queue_full"
        else:
            message, code = "a request to this model would wait too long now", "queue_wait_too_long"
        return GatewayError(message, status=429, type="requests", code=code, headers=headers)
    if isinstance(error, NoCredential):
        return UpstreamFailed(_NO_KEY)
    if isinstance(error, CannotStart):
        return ModelNotReady(no_start(error.failure), code=START_FAILED, headers=headers)
    if isinstance(error, NoEndpoint):
        return ModelNotReady("the model has no ready endpoint; try again later", headers=headers)
    return Overloaded("the request could not be given to the model", headers=headers)


def no_start(failure: StartFailure) -> str:
    """Say for clients that a model does not come up, and why."""
    return f"the model does not come up: {failure.message} ({failure.reason}); it is tried again all the time"


def _of_upstream(error: UpstreamError) -> GatewayError:
    if isinstance(error, DeadlineExceeded):
        return UpstreamTimeout(_DEADLINES[error.kind])
    if isinstance(error, KeyMissing):
        return UpstreamFailed(_NO_KEY)
    if isinstance(error, ConnectFailed):
        return UpstreamFailed("the model's engine could not be reached")
    if isinstance(error, NoMemory):
        return Overloaded()
    if isinstance(error, BodyTooLarge):
        return UpstreamFailed("the model's answer is too large")
    return UpstreamFailed("the model's engine broke off before its answer was complete")
