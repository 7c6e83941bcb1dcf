"""A connection to one place that is made anew when it is lost, in the background.

    no connection yet    calls wait for the first one, within their deadline
    connected            calls go out at once
    lost, or too late    all calls that wait fail; every further one fails at once, until the background has connected
                         and had an answer: an outage costs each process one deadline, not one per call

A connection that does not live long counts as a failure too, so that a Redis that answers PING and nothing else does
not cost a deadline ten times a second.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from capstan_gateway.life.pauses import doubled
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.wire import Connection, Refused, Reply

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.05
MOST_PAUSE: Final = 2.0
WELL_SECONDS: Final = 10.0
"""A connection that has lived so long was a good one."""
MOVED_ON: Final = frozenset({"READONLY", "MASTERDOWN", "LOADING", "UNBLOCKED", "NOAUTH", "NOREPLICAS"})
"""Refusals that another connection may not meet: the server is no master any more, or has forgotten who we are."""

Dial = Callable[[Callable[[Connection], object]], Awaitable[Connection]]


class Link:
    """Keeps a connection. Nothing is done before the first call, or `start`."""

    def __init__(self, dial: Dial, *, seconds: float, rng: Random, name: str = "redis") -> None:
        self._dial = dial
        self._seconds = seconds
        self._rng = rng
        self._name = name
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._failures = 0
        self._up_since = 0.0
        self._closed = False
        self.failure: str | None = None
        """What is wrong, in words without an address; None while nothing is known to be."""
        self.on_up: Callable[[], object] = lambda: None
        """Called when there is a connection again."""
        self.on_down: Callable[[], object] = lambda: None
        """Called when there is none any more."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection that has answered, and has not failed since."""
        return self._connection is not None

    async def send(self, *commands: bytes) -> Reply:
        """Send packed commands together; give the last one's reply. Raises StoreDown, and Refused for its errors."""
        connection = self._connection
        if connection is None:
            connection = await self._connected()
        for command in commands[:-1]:
            connection.call(command)
        reply = await connection.call(commands[-1])
        if isinstance(reply, StoreDown):
            if isinstance(reply, Refused) and reply.kind in MOVED_ON:
                connection.close(f"Redis refused: {reply.kind}")
            raise reply
        return reply

    def start(self) -> None:
        """Connect in the background, unless that is done or under way."""
        if self._connection is None and self._connecting is None and not self._closed:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def aclose(self) -> None:
        """End it; calls fail from now on."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            self._connection.close("the gateway ends")
        self._wake()

    async def _connected(self) -> Connection:
        """Give the first connection, within the deadline of a call."""
        if self.failure is None and not self._closed:
            self.start()
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await asyncio.wait((waiting,), timeout=self._seconds)
        if self._connection is None:
            self.failure = self.failure or "it does not answer"
            raise StoreDown(f"Redis: {self.failure}")
        return self._connection

    async def _connect(self) -> None:
        while True:
            if self._failures:
                pause = doubled(FIRST_PAUSE, MOST_PAUSE, self._failures - 1)
                await asyncio.sleep(pause * self._rng.uniform(0.5, 1.5))
            try:
                connection = await self._dial(self._lost)
            except (StoreDown, OSError, ValueError) as error:  # NB: TimeoutError is an OSError; ssl's are too.
                self._failed(error.kind if isinstance(error, Refused) else type(error).__name__)
                continue
            if connection.lost is None:
                self._take(connection)
                return
            self._failed(str(connection.lost))

    def _take(self, connection: Connection) -> None:
        self._connecting = None
        self._connection = connection
        self._up_since = asyncio.get_running_loop().time()
        if self.failure is not None:
            log.info("Redis answers again", extra={"redis": self._name})
        self.failure = None
        self._wake()
        self.on_up()

    def _lost(self, connection: Connection) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        if self._closed:
            return
        if asyncio.get_running_loop().time() - self._up_since >= WELL_SECONDS:
            self._failures = 0
        self._failed(str(connection.lost))
        self.on_down()
        self.start()

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self.failure is None:
            log.warning("Redis does not answer", extra={"redis": self._name, "reason": reason})
        self.failure = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)
