"""A loop that dials nowhere: what becomes of a connection, and what is read on it, is in the test's hands."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

REFUSED = ConnectionRefusedError("refused")


class FakeTransport(asyncio.Transport):
    """Remembers what is written and how it ends; tells its protocol of the end in the next turn, as a real one does."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.written: list[bytes] = []
        self.unsent = 0
        self.aborted = False
        self.reading = True
        self.deaf = False
        """Whether it never tells that it has ended."""

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            if not self.deaf:
                asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def lose(self, error: Exception | None = None) -> None:
        """The other side ends it."""
        self.aborted = True
        self.protocol.connection_lost(error)


class Dial:
    """Stands for `loop.create_connection`: connects at once, or does what is planned for an address."""

    def __init__(self, plans: dict[str, float | Exception] | None = None) -> None:
        self.plans = plans or {}
        """By address: the seconds that it takes (math.inf: it hangs), or the error that it ends with."""
        self.dialled: list[tuple[float, str]] = []
        self.options: list[dict[str, Any]] = []
        self.transports: list[FakeTransport] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Dial here from now on, in the running loop."""
        patch.setattr(asyncio.get_running_loop(), "create_connection", self.__call__)

    async def __call__(self, factory: Callable[[], Any], host: str, port: int, **options: Any) -> tuple[Any, Any]:
        """Make a connection."""
        self.dialled.append((asyncio.get_running_loop().time(), host))
        self.options.append({"port": port, **options})
        plan = self.plans.get(host, 0.0)
        if isinstance(plan, Exception):
            raise plan
        if plan:
            await (asyncio.Event().wait() if plan == math.inf else asyncio.sleep(plan))
        protocol = factory()
        transport = FakeTransport(protocol)
        self.transports.append(transport)
        protocol.connection_made(transport)
        return transport, protocol

    @property
    def hosts(self) -> list[str]:
        """Whom it was asked for."""
        return [host for _, host in self.dialled]
