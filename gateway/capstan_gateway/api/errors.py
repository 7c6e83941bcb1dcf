"""The one place where what went wrong becomes what the client is told."""

import logging

from capstan_gateway.api.envelope import error_body
from capstan_gateway.dialects.port import Dialect
from capstan_gateway.errors import GatewayError, Headers, ModelNotReady, Overloaded, UpstreamFailed, UpstreamTimeout
from capstan_gateway.headers import header_lines
from capstan_gateway.routing.errors import KeyMissing, NoCredential, NoEndpoint, RoutingError, TooManyWaiting
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.upstream.errors import BodyTooLarge, ConnectFailed, DeadlineExceeded, DeadlineKind, UpstreamError

log = logging.getLogger(__name__)

_DEADLINES = {
    DeadlineKind.CONNECT: "the model's engine did not accept a connection in time",
    DeadlineKind.FIRST_TOKEN: "the model did not begin to answer in time",
    DeadlineKind.IDLE: "the model stopped answering",
    DeadlineKind.TOTAL: "the model did not finish its answer in time",
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
    headers = retry_after(error.retry_after)
    if isinstance(error, TooManyWaiting):
        return GatewayError(
            "too many requests wait for this model",
            status=429, type="requests", code="rate_limit_exceeded", headers=headers,
        )  # fmt: skip
    if isinstance(error, NoCredential):
        return UpstreamFailed(_NO_KEY)
    if isinstance(error, NoEndpoint):
        return ModelNotReady("the model has no ready endpoint; try again later", headers=headers)
    return Overloaded("the request could not be given to the model", headers=headers)


def _of_upstream(error: UpstreamError) -> GatewayError:
    if isinstance(error, DeadlineExceeded):
        return UpstreamTimeout(_DEADLINES[error.kind])
    if isinstance(error, KeyMissing):
        return UpstreamFailed(_NO_KEY)
    if isinstance(error, ConnectFailed):
        return UpstreamFailed("the model's engine could not be reached")
    if isinstance(error, BodyTooLarge):
        return UpstreamFailed("the model's answer is too large")
    return UpstreamFailed("the model's engine broke off before its answer was complete")


def retry_after(seconds: float) -> Headers:
    """Give the headers that tell a client, and the SDKs, when to come back."""
    whole = max(1, round(seconds))
    return ((b"retry-after", b"%d" % whole), (b"retry-after-ms", b"%d" % max(1, round(seconds * 1000))))


def error_headers(error: GatewayError, body: bytes, request_id: bytes) -> list[tuple[bytes, bytes]]:
    """Give the headers of an error answer."""
    return [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id),
        *error.headers,
    ]


def error_response(
    error: GatewayError, request_id: bytes, dialect: Dialect | None = None
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Give status, headers and body of an error answer, in the client's dialect."""
    if dialect is not None:
        status, body = dialect.write_error(error, request_id.decode())
        return status, [*error_headers(error, body, request_id), (b"request-id", request_id)], body
    body = error_body(error)
    return error.status, error_headers(error, body, request_id), body


def respond_error(exchange: Exchange, error: GatewayError, request_id: bytes, dialect: Dialect | None = None) -> int:
    """Answer a request of which nothing is answered yet with an error; give the status."""
    status, headers, body = error_response(error, request_id, dialect)
    exchange.respond(status, header_lines(headers), body)
    return status
