"""An engine in this process, spoken to through its own ASGI application: the wire format without the wire."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from capstan_worker.asgi import App, Message, Receive, Scope, Send
from capstan_worker.engine.port import EngineAnswer, EngineRequest, Head
from capstan_worker.errors import EngineError

_NOT_WORK = frozenset({"/health", "/metrics", "/ping", "/version", "/load", "/v1/models"})


class CountedApp:
    """An ASGI application that knows how many requests it has not answered completely."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; questions about health are not work."""
        if scope["type"] != "http" or scope["path"] in _NOT_WORK:
            await self._app(scope, receive, send)
            return
        self.in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.in_flight -= 1


class AsgiEngine:
    """An engine whose OpenAI API is an ASGI application in this process."""

    def __init__(
        self,
        app: CountedApp,
        *,
        is_ready: Callable[[], bool],
        render_metrics: Callable[[], bytes],
        places: int | None = None,
    ) -> None:
        self._app = app
        self._is_ready = is_ready
        self._render_metrics = render_metrics
        self._places = places
        self._running: dict[str, _Call] = {}

    async def ready(self) -> bool:
        """Ask the engine."""
        return self._is_ready()

    async def generate(self, request: EngineRequest) -> EngineAnswer:
        """Call the application; return when its answer begins."""
        call = _Call(self._app, request)
        self._running[request.id] = call
        try:
            head = await call.head()
        except BaseException:
            await self.abort(request.id)
            raise
        return EngineAnswer(head=head, body=self._body(request.id, call), request_id=request.id)

    async def abort(self, request_id: str) -> None:
        """Tell the application that its client has gone."""
        call = self._running.pop(request_id, None)
        if call is not None:
            await call.end()

    async def in_flight(self) -> int:
        """Count what the application has not answered completely, over HTTP or from here."""
        return self._app.in_flight

    async def room(self) -> int | None:
        """Places less what is in flight."""
        return None if self._places is None else max(self._places - self._app.in_flight, 0)

    async def metrics(self) -> bytes:
        """Render the engine's registry."""
        return self._render_metrics()

    async def _body(self, request_id: str, call: "_Call") -> AsyncIterator[bytes]:
        try:
            async for piece in call.body():
                yield piece
        finally:
            await self.abort(request_id)


class _Call:
    """One call of an ASGI application, with backpressure: it may be a few pieces ahead of the reader, not more."""

    def __init__(self, app: App, request: EngineRequest) -> None:
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=16)
        self._gone = asyncio.Event()
        self._body_given = False
        self._request = request
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(request.body)).encode())]
        headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": request.path,
            "raw_path": request.path.encode("latin-1"),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": None,
            "server": None,
            "state": {},
        }
        self._task = asyncio.create_task(self._run(app, scope), name=f"engine-{request.id}")

    async def head(self) -> Head:
        """Wait for the head of the answer."""
        message = await self._messages.get()
        if message is None:
            raise EngineError("the engine ended a request without an answer")
        types = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
        return Head(message["status"], types[0].decode("latin-1") if types else "application/json")

    async def body(self) -> AsyncIterator[bytes]:
        """Give the pieces of the body."""
        while True:
            message = await self._messages.get()
            if message is None:
                raise EngineError("the engine ended an answer before it was complete")
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return

    async def end(self) -> None:
        """Let the application see that the client has gone, and wait for it to end."""
        self._gone.set()
        while not self._task.done():
            # It may be waiting for the reader that is not there any more.
            while not self._messages.empty():
                self._messages.get_nowait()
            await asyncio.wait({self._task}, timeout=0.05)
        with contextlib.suppress(asyncio.CancelledError):
            self._task.exception()

    async def _run(self, app: App, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            if not self._gone.is_set():
                await self._messages.put(None)

    async def _receive(self) -> Message:
        if not self._body_given:
            self._body_given = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set():
            # An application that goes on sending must not keep the loop for itself.
            await asyncio.sleep(0)
        else:
            await self._messages.put(message)
