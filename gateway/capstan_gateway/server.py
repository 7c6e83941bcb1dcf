"""The HTTP server around the application: uvicorn, with a drain that it does not know."""

import asyncio
import contextlib
import signal
from collections.abc import Generator
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from capstan_gateway.app import create_admin_app, create_app
from capstan_gateway.protocol import bounded_protocol
from capstan_gateway.settings import Settings
from capstan_gateway.wiring import Gateway

KEEP_ALIVE_SECONDS: Final = 75


class DrainingServer(uvicorn.Server):
    """A server that leaves signals to `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture nothing."""
        yield


def make_server(app: FastAPI, settings: Settings, port: int, *, lifespan: Any) -> DrainingServer:
    """Make the server of one port; `lifespan` is "on" for the application that does the background work."""
    return DrainingServer(
        uvicorn.Config(
            app,
            host=settings.host,
            port=port,
            loop="none",
            http=bounded_protocol(settings.max_header_bytes, settings.max_connections),
            ws="none",
            lifespan=lifespan,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=4096,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
        )
    )


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then drain, finish what runs, and return.

    A second signal ends the grace at once.
    """
    gateway = Gateway(settings)
    servers = [make_server(create_app(gateway), settings, settings.port, lifespan="on")]
    if settings.admin_port is not None:
        servers.append(make_server(create_admin_app(gateway), settings, settings.admin_port, lifespan="off"))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            for server in servers:
                server.should_exit = server.force_exit = True
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(server.serve()) for server in servers]
        await _first(stop, *running)
        gateway.drain()
        await _first(None, *running, seconds=settings.drain_seconds if stop.is_set() else 0.0)
        # The admin pages stay until the API is done, so that the last metrics can be read.
        servers[0].should_exit = True
        await asyncio.wait([running[0]])
        for server in servers[1:]:
            server.should_exit = True


async def _first(event: asyncio.Event | None, *tasks: asyncio.Task[None], seconds: float | None = None) -> None:
    """Return when the event is set, one of the tasks is done, or the time is over."""
    waiter = asyncio.create_task(event.wait()) if event is not None else None
    watched: list[asyncio.Task[Any]] = [*tasks, *([waiter] if waiter is not None else [])]
    await asyncio.wait(watched, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    if waiter is not None:
        waiter.cancel()
