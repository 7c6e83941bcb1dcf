"""One connection to Redis that many calls share: what is asked during one turn of the loop goes out in one write.

    call ──► packed ──► queue of this turn ──► one write          replies ──► the oldest call that waits
                                                                      └─ none within the deadline: the connection is
                                                                         closed, and all calls that wait have failed

The parser is hiredis. There is one timer for all calls: they wait in order, so only the oldest needs a look. A reply
that is an error is given as a `Refused`, not raised: a call that nobody waits for any more then needs no care.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

from capstan_gateway.stores.port import StoreDown

Word = bytes | str | int
Reply = Any
"""bytes, int, None, a list of replies, or an exception: Refused or StoreDown."""
MOST_WAITING: Final = 8192
"""Calls on one connection that wait for their replies; further ones fail at once."""
GRACE_SECONDS: Final = 0.002
"""What a call gets beyond its deadline: some loops look at timers before they read, and one that was held up itself
would take its own delay for Redis'."""
_MORE: Final = object()


class Refused(StoreDown):
    """Redis answered with an error. Its text is Redis' own, and is not for clients."""

    @property
    def kind(self) -> str:
        """The error's first word: NOSCRIPT, OOM, MOVED..."""
        return str(self).split(" ", 1)[0]


def pack(words: tuple[Word, ...]) -> bytes:
    """Give a command as Redis reads it."""
    # NB: its own types say that a command is one word.
    return cast(bytes, hiredis.pack_command(words))  # type: ignore[arg-type]


def raised(reply: Reply) -> Reply:
    """Give a reply, or raise it."""
    if isinstance(reply, StoreDown):
        raise reply
    return reply


class Connection(asyncio.Protocol):
    """A connection that is open, or was. Every call gets exactly one reply: Redis', or a StoreDown."""

    __slots__ = (
        "_loop", "_on_lost", "_on_reply", "_out", "_reader", "_seconds", "_timer", "_transport", "_waiting", "lost",
    )  # fmt: skip

    def __init__(
        self,
        *,
        seconds: float,
        on_lost: Callable[["Connection"], object] = lambda _: None,
        on_reply: Callable[[float], object] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._on_lost = on_lost
        self._on_reply = on_reply
        """Hears of how many seconds each reply took."""
        self._reader = hiredis.Reader(replyError=Refused, notEnoughData=_MORE)
        self._waiting: deque[tuple[asyncio.Future[Reply], float]] = deque()
        """Calls without a reply, and when each began."""
        self._out: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.lost: StoreDown | None = None
        """Why there is no connection any more."""

    def call(self, command: bytes) -> "asyncio.Future[Reply]":
        """Send a packed command; its reply comes within the deadline, or a StoreDown in its place."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self.lost is not None or len(self._waiting) >= MOST_WAITING:
            future.set_result(self.lost or StoreDown("too many calls of Redis wait"))
            return future
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(command)
        self._waiting.append((future, self._loop.time()))
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)
        return future

    def close(self, reason: str) -> None:
        """End it: all calls that wait fail."""
        if self.lost is not None:
            return
        self.lost = StoreDown(reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._out.clear()
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_result(self.lost)
        self._on_lost(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; one that was given up meanwhile ends at once."""
        self._transport = cast(asyncio.Transport, transport)
        if self.lost is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whatever waits."""
        self.close(f"the connection to Redis ended: {type(exc).__name__ if exc else 'closed'}")
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Give each reply to the call that waits the longest."""
        if self.lost is not None:
            return
        reader, waiting, now = self._reader, self._waiting, self._loop.time()
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _MORE:
                future, began = waiting.popleft()
                if self._on_reply is not None:
                    self._on_reply(now - began)
                if not future.done():
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.close("what answers does not speak Redis' protocol")

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _look(self) -> None:
        """See whether the oldest call is late; else look again when it would be."""
        if not self._waiting:
            self._timer = None
            return
        due = self._waiting[0][1] + self._seconds
        now = self._loop.time()
        if now >= due + GRACE_SECONDS:
            self._timer = None
            self.close("Redis did not answer in time")
            return
        later = due - now if now < due else GRACE_SECONDS
        self._timer = self._loop.call_later(later, self._look)
