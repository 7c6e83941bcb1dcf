"""The health port: /healthz says whether the process works, /readyz whether it gets its work done, /metrics how much.

Nothing that only the API server, or somebody's namespace, can put right makes /healthz fail: a restart would not help,
and an operator that is killed for it again and again does not do what it still could.
"""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from capstan_operator.metrics import Metrics

Problem = Callable[[], str | None]
"""Says what is wrong, or None."""


class HealthServer:
    """Serves until `stop`. `notes` are lines for people, added to what /readyz answers."""

    def __init__(
        self, *, port: int, metrics: Metrics, alive: Problem, ready: Problem, notes: Callable[[], list[str]] = list
    ) -> None:
        self._port = port
        self._metrics = metrics
        self._alive = alive
        self._ready = ready
        self._notes = notes
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application()
        app.add_routes(
            [web.get("/healthz", self._healthz), web.get("/readyz", self._readyz), web.get("/metrics", self._render)]
        )
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "0.0.0.0", self._port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        problem = self._alive()
        return web.Response(text=problem or "ok", status=500 if problem else 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        problem = self._alive() or self._ready()
        text = "\n".join([problem or "ok", *self._notes()])
        return web.Response(text=text, status=500 if problem else 200)

    async def _render(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
