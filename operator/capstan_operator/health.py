"""The health port: /healthz fails when the loop has stopped resyncing, /metrics shows what it does."""

import logging
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from capstan_operator.metrics import Metrics

log = logging.getLogger(__name__)


class HealthServer:
    """Serves until `stop`. `problem` says what is wrong, or None."""

    def __init__(self, *, port: int, metrics: Metrics, problem: Callable[[], str | None]) -> None:
        self._port = port
        self._metrics = metrics
        self._problem = problem
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/metrics", self._render)])
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "0.0.0.0", self._port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        problem = self._problem()
        return web.Response(text=problem or "ok", status=500 if problem else 200)

    async def _render(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
