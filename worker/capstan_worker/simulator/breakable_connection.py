"""A connection that tells at once when its client has gone, and that can be broken on purpose."""

import asyncio
import socket
import struct

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from capstan_worker.simulator.errors import ClientGone, FaultDone

SCOPE_KEY = "capstan.connection"


class BreakableConnection(HttpToolsProtocol):
    """uvicorn's HTTP protocol; every wait of a request goes through it and ends with ClientGone when the client goes.

    This is cheaper than a second task per request that waits for `http.disconnect`, and it does not cancel anything.
    """

    lost = False
    _waiter: "asyncio.Future[None] | None" = None

    def on_message_begin(self) -> None:
        """Let the application find this connection."""
        super().on_message_begin()
        extended: dict[str, object] = self.scope  # type: ignore[assignment]  # not one of the keys that ASGI names
        extended[SCOPE_KEY] = self

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits."""
        self.lost = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ClientGone())
        super().connection_lost(exc)

    def check(self) -> None:
        """Raise ClientGone when the client has gone."""
        if self.lost:
            raise ClientGone

    async def sleep_until(self, when: float) -> None:
        """Sleep until this time of the event loop's clock."""
        self.check()
        if when <= self.loop.time():
            return
        waiter = self.loop.create_future()
        handle = self.loop.call_at(when, _finish, waiter)
        try:
            await self.wait(waiter)
        finally:
            handle.cancel()

    async def wait(self, waiter: "asyncio.Future[None]") -> None:
        """Wait for a future that somebody else completes."""
        self.check()
        self._waiter = waiter
        try:
            await waiter
        finally:
            self._waiter = None

    async def stall(self) -> None:
        """Do nothing until the client goes away."""
        await self.wait(self.loop.create_future())

    async def reset(self) -> None:
        """Reset the connection (RST), so that the client sees an error and not an end. Always raises FaultDone."""
        self.abort()
        await self._until_lost()

    async def hang_up(self) -> None:
        """Close the connection after what was written, whatever HTTP would still want. Always raises FaultDone."""
        self.transport.close()
        await self._until_lost()

    def abort(self) -> None:
        """Reset the connection without waiting."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def _until_lost(self) -> None:
        try:
            await self.stall()
        except ClientGone:
            raise FaultDone from None


def _finish(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
