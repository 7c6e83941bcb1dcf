"""The worker port: what Kubernetes, Prometheus and the preStop hook ask.

    /healthz       200 while the process works
    /readyz        200 when the model is loaded, the prefixes are warm, and no drain has begun
    /metrics       the engine's metrics and the worker's own
    /drain?token=  begins the drain and answers when it has ended; it is the pod's preStop hook

The token keeps others in the cluster from draining a model. Without a token in the environment /drain does not exist.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol
from urllib.parse import parse_qs

from capstan_worker.asgi import TEXT, Receive, Scope, Send, reply
from capstan_worker.drain import Drainer

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


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
        drain_token: str | None,
        more: Mapping[str, Handler] | None = None,
    ) -> None:
        self._subject = subject
        self._drainer = drainer
        self._token = drain_token
        self._routes: dict[str, Handler] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            **(more or {}),
        }
        if drain_token:
            self._routes["/drain"] = self._drain

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
        )
        body = await self._subject.metrics()
        separator = b"" if not body or body.endswith(b"\n") else b"\n"
        await reply(send, 200, body + separator + own.encode(), content_type=METRICS_TYPE)

    async def _drain(self, scope: Scope, _receive: Receive, send: Send) -> None:
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), (self._token or "").encode()):
            await reply(send, 403, b"the token is wrong\n", content_type=TEXT)
            return
        verdict = await self._drainer.wait()
        await reply(send, 200, verdict.value.encode() + b"\n", content_type=TEXT)


async def _say(send: Send, problem: str | None) -> None:
    if problem is None:
        await reply(send, 200, b"ok\n", content_type=TEXT)
    else:
        await reply(send, 503, problem.encode() + b"\n", content_type=TEXT)
