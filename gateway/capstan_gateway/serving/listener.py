"""The listening socket of one port."""

import asyncio
from typing import Final

from capstan_gateway.serving.client_connection import ClientConnection
from capstan_gateway.serving.service import Service

BACKLOG: Final = 4096
CANCEL_SECONDS: Final = 2.0
"""How long handlers may take to end once they are cut off."""


class Listener:
    """Opens a port for a service, and closes it in order."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        """Accept connections from now on. Raises OSError when the address cannot be had."""
        service = self.service
        self._server = await service.loop.create_server(lambda: ClientConnection(service), host, port, backlog=BACKLOG)

    async def close(self, *, grace_seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Accept no more, and return when all is answered; what is not after the grace, or in a hurry, is cut off."""
        self.service.closing = True
        if self._server is not None:
            self._server.close()
        try:
            if self.service.connections:
                await self._end(self.service, grace_seconds, hurry)
        finally:
            self.service.close()

    @staticmethod
    async def _end(service: Service, grace_seconds: float, hurry: asyncio.Event | None) -> None:
        """Return when the last connection is over, or was cut off."""
        for connection in list(service.connections):
            connection.shut_down()
        waits = [asyncio.create_task(service.closed.wait())]
        if hurry is not None:
            waits.append(asyncio.create_task(hurry.wait()))
        await asyncio.wait(waits, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        for connection in list(service.connections):
            connection.cancel()
        await asyncio.wait(waits[:1], timeout=CANCEL_SECONDS)
        for wait in waits:
            wait.cancel()
