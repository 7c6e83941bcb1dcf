"""The HTTP server around the application: uvicorn, with bounds that it lacks and a drain that it does not know."""

import asyncio
import contextlib
import signal
from collections.abc import Generator
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from capstan_gateway.api.errors import error_response
from capstan_gateway.app import create_admin_app, create_app
from capstan_gateway.errors import HeadersTooLarge, InvalidRequest
from capstan_gateway.settings import Settings
from capstan_gateway.wiring import Gateway

KEEP_ALIVE_SECONDS: Final = 75
HEAD_SECONDS: Final = 30.0
"""How long a fresh connection may take to send the head of its first request."""


def bounded_protocol(max_head_bytes: int) -> type[HttpToolsProtocol]:
    """Make a protocol class whose request heads are bounded in size and time, and whose refusals are envelopes."""

    class BoundedProtocol(HttpToolsProtocol):
        _head_bytes = 0
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)  # type: ignore[arg-type]
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            self._head_bytes = 0
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._head_bytes += len(url)
            super().on_url(url)
            self._check()

        def on_header(self, name: bytes, value: bytes) -> None:
            self._head_bytes += len(name) + len(value) + 4
            self._check()
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._stop_timer()
            super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - what the parser says is not for clients
            if self._head_bytes > max_head_bytes:
                self._refuse(HeadersTooLarge(f"the request's head is larger than {max_head_bytes} bytes"))
            else:
                self._refuse(InvalidRequest("the request is not HTTP/1.1"))

        def _check(self) -> None:
            if self._head_bytes > max_head_bytes:
                # The parser turns this into an error of its own, which ends in `send_400_response`.
                raise ValueError("head too large")

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _refuse(self, error: InvalidRequest) -> None:
            if self.transport.is_closing():
                return
            status, headers, body = error_response(error, b"none")
            lines = [b"HTTP/1.1 %d Refused\r\n" % status]
            lines += [b"%b: %b\r\n" % item for item in headers]
            self.transport.write(b"".join((*lines, b"connection: close\r\n\r\n", body)))
            self.transport.close()

    return BoundedProtocol


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
            http=bounded_protocol(settings.max_header_bytes),
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
