"""The inference routes: plain ASGI handlers, found by their path before any framework looks at the request."""

import asyncio
from collections.abc import Callable
from typing import Final

from capstan_contract.config import Task
from capstan_contract.names import REQUEST_ID_HEADER
from capstan_gateway.api.errors import error_response, retry_after
from capstan_gateway.api.requestid import RequestIds
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.dialects.clients import MESSAGES, RESPONSES
from capstan_gateway.dialects.port import Dialect
from capstan_gateway.errors import GatewayError, MethodNotAllowed, Overloaded
from capstan_gateway.pipeline.context import HeaderList, Receive, RequestContext, Route, Scope, Send
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.run import Run
from capstan_gateway.pipeline.watch import InFlight

BODY_SECONDS: Final = 60.0
"""How long the body of a request may take to arrive."""

ROUTES: Final = (
    Route("/v1/chat/completions", b"/chat/completions", frozenset((Task.CHAT,)), ("messages",), streams=True),
    Route("/v1/completions", b"/completions", frozenset((Task.CHAT, Task.COMPLETION)), ("prompt",), streams=True),
    Route("/v1/messages", b"/chat/completions", frozenset((Task.CHAT,)), streams=True, dialect=MESSAGES),
    Route("/v1/messages/count_tokens", b"/messages/count_tokens", frozenset((Task.CHAT,)), dialect=MESSAGES),
    Route("/v1/responses", b"/chat/completions", frozenset((Task.CHAT,)), streams=True, dialect=RESPONSES),
    Route("/v1/embeddings", b"/embeddings", frozenset((Task.EMBED,)), ("input",)),
    Route("/v1/classify", b"/classify", frozenset((Task.CLASSIFY,))),
    Route("/v1/score", b"/score", frozenset((Task.SCORE, Task.EMBED))),
    Route("/v1/rerank", b"/rerank", frozenset((Task.SCORE, Task.EMBED)), ("query", "documents")),
)

_REQUEST_ID: Final = REQUEST_ID_HEADER.encode()
_TRACE: Final = frozenset((b"traceparent", b"tracestate"))
_SESSION: Final = b"x-session-id"
_MAX_SESSION_BYTES: Final = 256
_MAX_TRACE_BYTES: Final = 1024
_CLOSE: Final[HeaderList] = [(b"connection", b"close")]


class InferenceHandler:
    """Serves one route."""

    def __init__(
        self,
        route: Route,
        deps: Deps,
        *,
        current: Callable[[], Runtime | None],
        requests: InFlight,
        ids: RequestIds,
        draining: Callable[[], bool],
    ) -> None:
        self._route = route
        self._deps = deps
        self._current = current
        self._requests = requests
        self._ids = ids
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request from beginning to end."""
        request_id, trace, session = self._read_headers(scope)
        runtime = self._current()
        refusal = self._refuse(scope, runtime)
        if refusal is not None or runtime is None:
            await send_error(send, refusal or _not_ready(), request_id, self._route.dialect)
            return
        now = self._deps.clock()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is served in a task")
        context = RequestContext(
            scope, receive, send,
            route=self._route, runtime=runtime, task=task, started=now, expires_at=now + BODY_SECONDS,
        )  # fmt: skip
        context.request_id_header = request_id
        context.request_id = request_id.decode()
        context.trace_headers = trace
        context.session = session
        if self._draining():
            # The client's next request is better sent to another replica.
            context.connection_headers = _CLOSE
        self._requests.add(context)
        try:
            await Run(context, self._deps).serve()
        finally:
            self._requests.remove(context)

    def _read_headers(self, scope: Scope) -> tuple[bytes, HeaderList, str]:
        given, session, trace = b"", b"", []
        for item in scope["headers"]:
            name = item[0]
            if name == _REQUEST_ID:
                given = item[1]
            elif name in _TRACE and len(item[1]) <= _MAX_TRACE_BYTES:
                trace.append(item)
            elif name == _SESSION:
                session = item[1][:_MAX_SESSION_BYTES]
        return (self._ids.accept(given) if given else self._ids.make()), trace, session.decode("latin-1")

    def _refuse(self, scope: Scope, runtime: Runtime | None) -> GatewayError | None:
        if scope["method"] != "POST":
            return MethodNotAllowed(f"{self._route.path} takes POST", headers=((b"allow", b"POST"),))
        if self._requests.full:
            self._deps.metrics.rejected.at("concurrency").value += 1
            # NB: the body is not read, so the connection cannot be used again.
            return Overloaded("the gateway is full; try again", headers=(*retry_after(1.0), *_CLOSE))
        return _not_ready() if runtime is None else None


def _not_ready() -> GatewayError:
    return Overloaded("the gateway has no configuration yet; try again", headers=(*retry_after(1.0), *_CLOSE))


async def send_error(send: Send, error: GatewayError, request_id: bytes, dialect: Dialect | None) -> None:
    """Answer with an error, outside of the pipeline."""
    status, headers, body = error_response(error, request_id, dialect)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
