"""An answer that a policy in mode Shadow looks at: it goes on as it is, at the pace of who reads it."""

from collections.abc import Callable
from typing import Final

from capstan_gateway.memory import Share
from capstan_gateway.pipeline.guards.watching import WatchingRelay
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply

MOST_BYTES: Final = 1024 * 1024
"""Of a stream; nobody looks at a longer one."""


class Seen:
    """One answer."""

    def __init__(self, reply: Reply, *, share: Callable[[], Share]) -> None:
        self.whole: Final = reply if isinstance(reply, WholeReply) else None
        self.reply: Reply = reply
        """The same to its client."""
        self._runs: list[bytes] = []
        self._size = 0
        self._lost = False
        self._relay: WatchingRelay | None = None
        if isinstance(reply, StreamReply):
            self._share = share()
            self._relay = WatchingRelay(reply.relay, self._take)
            self._take(reply.first)
            self.reply = StreamReply(reply.first, reply.source, self._relay, native=reply.native, broken=reply.broken)

    @property
    def is_whole(self) -> bool:
        """Whether all of it has gone on."""
        relay = self._relay
        return self.whole is not None or (relay is not None and relay.done and relay.error is None and not self._lost)

    def frames(self) -> bytes | None:
        """Give the frames of a stream."""
        return None if self._relay is None else b"".join(self._runs)

    def _take(self, run: bytes) -> None:
        if self._lost or not run:
            return
        self._size += len(run)
        self._lost = self._size > MOST_BYTES or not self._share.grow_easily(len(run))
        if self._lost:
            self._runs = []
            self._share.release()
        else:
            self._runs.append(run)
