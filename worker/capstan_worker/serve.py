"""Listening on ports and ending well: what every worker command shares.

A `Listener` serves one ASGI application on one port with uvicorn's protocol. It is not uvicorn's own server because a
worker has two ports and one drain, and because the simulator closes and reopens its port while it runs.
"""

import asyncio
import concurrent.futures
import logging
import signal
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from capstan_worker.asgi import App
from capstan_worker.errors import UsageError

log = logging.getLogger(__name__)
T = TypeVar("T")
_ANY: Final = ("0.0.0.0", "::")  # compared, not bound
_ELSEWHERE: Final = ((socket.AF_INET, ("192.0.2.1", 9)), (socket.AF_INET6, ("2001:db8::1", 9)))
"""Addresses of documentation, by families in the order in which gateways prefer them."""


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
        bound: socket.socket | None = None,
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
        self._bound = bound
        """A socket that is bound already; the first `open` takes it."""

    async def open(self) -> None:
        """Listen. Raises UsageError when the port is taken."""
        if self._server is not None:
            return
        bound, self._bound = self._bound or listening_socket(self._host, self._port), None
        self._server = await asyncio.get_running_loop().create_server(self._make, sock=bound, backlog=2048)

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


def announced(host: str, port: int) -> str:
    """Give the `HOST:PORT` at which others reach a server that listens on `host`, in a pod the pod's; "" when this
    machine has no way to others."""
    if host not in _ANY:
        return f"{host}:{port}"
    for family, other in _ELSEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(other)  # It sends nothing: only the way there is looked up.
            return f"{probe.getsockname()[0]}:{port}"
    return ""


def reachable(host: str) -> str:
    """Give an address at which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # compared, not bound


class PortThread:
    """A listener in a thread with an event loop of its own, for a port that must answer while the main loop cannot.

    Loading a model keeps the main loop busy for minutes, and Kubernetes asks for health all that time.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._running: list[concurrent.futures.Future[None]] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="worker-port", daemon=True)

    def start(self) -> None:
        """Listen. Raises UsageError when the port is taken."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listener.open(), self._loop).result(timeout=10)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something on the thread's loop until `stop` cancels it."""
        self._running.append(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the thread's loop and wait for it on this one."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def stop(self) -> None:
        """End what runs, answer what is being answered, then end the thread."""
        for running in self._running:
            running.cancel()
        asyncio.run_coroutine_threadsafe(self._listener.finish(1.0), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        if not self._thread.is_alive():
            self._loop.close()


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
