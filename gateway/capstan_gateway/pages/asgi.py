"""Serves an ASGI application: the pages beside the inference routes, each of which is answered in one piece."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import httptools

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.headers import header_lines
from capstan_gateway.identity.principal import Principal
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.refusals import respond_error

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

MAX_BODY: Final = 64 * 1024
"""What pages read is small: what is to be purged, for one."""
BODYLESS: Final = frozenset((204, 304))


class AsgiHandler:
    """A handler that hands requests to an ASGI application."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, exchange: Exchange, principal: Principal | None = None) -> None:
        """Serve one request; pages find who sends it in `request.state.principal`."""
        scope = _scope(exchange, principal)
        if scope is None:
            respond_error(exchange, InvalidRequest("the request's path is not valid"), b"none")
            return
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if asked:
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": await exchange.read_body(MAX_BODY), "more_body": False}

        status, headers, pieces = 500, list[tuple[bytes, bytes]](), list[bytes]()

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message.get("headers", ()))
            elif message["type"] == "http.response.body":
                pieces.append(bytes(message.get("body", b"")))

        try:
            await self._app(scope, receive, send)
        finally:
            # An application that fails has answered so before it raises.
            if pieces:
                _respond(exchange, status, headers, b"".join(pieces))


def _respond(exchange: Exchange, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    if status not in BODYLESS and not any(name.lower() == b"content-length" for name, _ in headers):
        headers.append((b"content-length", b"%d" % len(body)))
    exchange.respond(status, header_lines(headers), body)


def _scope(exchange: Exchange, principal: Principal | None) -> Message | None:
    """Describe the request as ASGI does; None when its target is not one."""
    try:
        url = httptools.parse_url(exchange.target)
        raw_path = url.path or b""
        path = raw_path.decode("ascii")
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
        return None
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        # NB: to answer HEAD is to answer GET and leave the body out, which the exchange does.
        "method": "GET" if exchange.method == b"HEAD" else exchange.method.decode("ascii"),
        "scheme": "http",
        # As it came: a route is matched by its raw path, and an escaped slash is part of a name.
        "path": path,
        "raw_path": raw_path,
        "query_string": url.query or b"",
        "root_path": "",
        "headers": exchange.headers,
        "client": None,
        "server": None,
        "state": {} if principal is None else {"principal": principal},
    }
