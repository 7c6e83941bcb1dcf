"""How an error is answered over HTTP: in the OpenAI envelope, or in the dialect of the client's own API."""

from typing import Protocol

from capstan_gateway.envelope import error_body
from capstan_gateway.errors import GatewayError
from capstan_gateway.headers import header_lines
from capstan_gateway.serving.exchange import Exchange


class ErrorWriter(Protocol):
    """What another API than OpenAI's makes of an error; a client's dialect is one."""

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        """Give the status and the body of the answer."""
        ...


def error_headers(error: GatewayError, body: bytes, request_id: bytes) -> list[tuple[bytes, bytes]]:
    """Give the headers of an error answer."""
    return [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id),
        *error.headers,
    ]


def error_response(
    error: GatewayError, request_id: bytes, dialect: ErrorWriter | None = None
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Give status, headers and body of an error answer, in the client's dialect."""
    if dialect is not None:
        status, body = dialect.write_error(error, request_id.decode())
        return status, [*error_headers(error, body, request_id), (b"request-id", request_id)], body
    body = error_body(error)
    return error.status, error_headers(error, body, request_id), body


def respond_error(
    exchange: Exchange, error: GatewayError, request_id: bytes, dialect: ErrorWriter | None = None
) -> int:
    """Answer a request of which nothing is answered yet with an error; give the status."""
    status, headers, body = error_response(error, request_id, dialect)
    exchange.respond(status, header_lines(headers), body)
    return status
