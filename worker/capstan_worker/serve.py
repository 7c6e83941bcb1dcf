"""Listening on ports and ending well: what every worker command shares.

A `Listener` serves one ASGI application on one port with uvicorn's protocol. It is not uvicorn's own server because a
worker has two ports and one drain, and because the simulator closes and reopens its port while it runs.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from capstan_worker.asgi import App
from capstan_worker.errors import UsageError

log = logging.getLogger(__name__)
T = TypeVar("T")


class Listener:
    """One port. `open` and `close` may alternate; `finish` ends the connections as well."""

    def __init__(
        self,
        app: App,
        *,
        host: str,
        port: int,
        keep_alive_seconds: float = 65.0,
        protocol: type[HttpToolsProtocol] = HttpToolsProtocol,
    ) -> None:
        self._config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=keep_alive_seconds,  # type: ignore[arg-type]  # handed to loop.call_later
        )
        self._config.load()
        self._host = host
        self._port = port
        self._protocol = protocol
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. Raises UsageError when the port is taken."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._make, host=self._host, port=self._port, backlog=2048, reuse_address=True
            )
        except OSError as error:
            raise UsageError(f"cannot listen on {self._host}:{self._port}: {error.strerror or error}") from error

    def close(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def connections(self) -> tuple[HttpToolsProtocol, ...]:
        """Give the open connections."""
        return tuple(c for c in self._state.connections if isinstance(c, HttpToolsProtocol))

    async def finish(self, seconds: float = 0.0) -> None:
        """Close the port and every idle connection; cut what is not done after `seconds`."""
        self.close()
        for connection in self.connections():
            connection.shutdown()
        try:
            async with asyncio.timeout(max(seconds, 0.01)):
                while self._state.tasks:
                    await asyncio.wait(set(self._state.tasks))
        except TimeoutError:
            log.warning("cut requests that were not done", extra={"count": len(self._state.tasks)})
        for connection in self.connections():
            connection.transport.abort()
        await asyncio.sleep(0)

    def _make(self) -> HttpToolsProtocol:
        return self._protocol(config=self._config, server_state=self._state, app_state={})


def listening_socket(host: str, port: int) -> socket.socket:
    """Bind a port before something slow starts, so that a taken port is told at once. Raises UsageError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return sock


class Signals:
    """SIGTERM and SIGINT as things to wait for: the first asks for a drain, the second for an end at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        (self.insisted if self.asked.is_set() else self.asked).set()

    async def drained(self, wait: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Wait for the first signal, then for `wait()` or the second signal, whichever comes first."""
        await self.asked.wait()
        await first(wait(), self.insisted.wait())


async def first(*awaitables: Coroutine[Any, Any, object]) -> None:
    """Return when one of them has; end the others. Raises what the first one raised."""
    tasks = [asyncio.create_task(item) for item in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
