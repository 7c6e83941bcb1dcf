"""The worker port: what Kubernetes, Prometheus and the preStop hook ask.

    /healthz   200 while the process works
    /readyz    200 when the model is loaded, the prefixes are warm, and no drain has begun
    /metrics   the engine's metrics and the worker's own
    /drain     answers when nothing has been in flight for a while; it is the pod's preStop hook; 503 when too many wait

None of them changes anything, because whoever reaches the port can ask: the kubelet's requests come from the node, with
nothing in them that a stranger could not send as well. What ends a worker is a signal.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Protocol, TypeVar

from capstan_worker.asgi import TEXT, Receive, Scope, Send, reply
from capstan_worker.drain import Drainer

T = TypeVar("T")
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
MOST_WAITING: Final = 64
"""Requests to /drain that may wait at once: each holds a connection, for the whole grace perhaps."""
MOST_WAITING_OF_ONE: Final = 4
"""Of these, those from one address, so that a stranger does not take the kubelet's place. A hook is one request."""


class Subject(Protocol):
    """What the worker port reports about."""

    async def not_alive(self) -> str | None:
        """Say why the process should be restarted; None while it works."""

    async def not_ready(self) -> str | None:
        """Say why no request should be sent; None when ready. Draining is not its business."""

    async def metrics(self) -> bytes:
        """Give everything that Prometheus should see, in its text format."""


class WorkerPort:
    """The ASGI application of the worker port."""

    def __init__(
        self,
        subject: Subject,
        drainer: Drainer,
        *,
        more: Mapping[str, Handler] | None = None,
        own_metrics: Callable[[], str] = lambda: "",
    ) -> None:
        """`own_metrics` are those of the worker's own beside what the subject gives, in Prometheus' text format."""
        self._subject = subject
        self._own_metrics = own_metrics
        self._drainer = drainer
        self._waiting: Counter[str] = Counter()
        self._routes: dict[str, Handler] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/drain": self._drain,
            **(more or {}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        handler = self._routes.get(scope["path"])
        if handler is None:
            await reply(send, 404, b"not found\n", content_type=TEXT)
        else:
            await handler(scope, receive, send)

    async def _healthz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _say(send, await self._subject.not_alive())

    async def _readyz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _say(send, "draining" if self._drainer.draining else await self._subject.not_ready())

    async def _metrics(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        own = (
            "# HELP capstan_worker_draining Whether the worker is going away.\n"
            "# TYPE capstan_worker_draining gauge\n"
            f"capstan_worker_draining {int(self._drainer.draining)}\n"
            f"{self._own_metrics()}"
        )
        body = await self._subject.metrics()
        separator = b"" if not body or body.endswith(b"\n") else b"\n"
        await reply(send, 200, body + separator + own.encode(), content_type=METRICS_TYPE)

    async def _drain(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = str((scope.get("client") or ("",))[0])
        if self._waiting.total() >= MOST_WAITING or self._waiting[address] >= MOST_WAITING_OF_ONE:
            await reply(send, 503, b"too many wait\n", content_type=TEXT)
            return
        self._waiting[address] += 1
        try:
            verdict = await _while_connected(self._drainer.idle(), receive)
        finally:
            self._waiting[address] -= 1
            self._waiting = +self._waiting
        if verdict is not None:
            await reply(send, 200, verdict.value.encode() + b"\n", content_type=TEXT)


async def _while_connected(work: Coroutine[Any, Any, T], receive: Receive) -> T | None:
    """Give what the work comes to; None, and end it, when the client has gone before."""
    doing = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else None
    finally:
        doing.cancel()
        gone.cancel()
        await asyncio.gather(doing, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _say(send: Send, problem: str | None) -> None:
    if problem is None:
        await reply(send, 200, b"ok\n", content_type=TEXT)
    else:
        await reply(send, 503, problem.encode() + b"\n", content_type=TEXT)
