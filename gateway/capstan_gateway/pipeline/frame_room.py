"""The memory of what a stream keeps back: frames that are not whole yet, text that waits behind an open call.

What is large is taken from the process' budget while it grows.
"""

from collections.abc import Callable
from typing import Final

from capstan_gateway.memory import Share
from capstan_gateway.upstream.errors import NoMemory

FREE_FRAME_BYTES: Final = 64 * 1024
"""What a stream may keep without taking it from the budget: what bounds it is the number of requests."""
FRAME_FACTOR: Final = 3
"""How many times its size that takes: as it comes, as a whole, and as what is read in it."""


class FrameRoom:
    """The account of one stream; `open_share` is called when it first needs one, which its ask releases."""

    __slots__ = ("_open_share", "_share", "_whose")

    def __init__(self, open_share: Callable[[], Share], *, whose: str) -> None:
        self._open_share = open_share
        self._share: Share | None = None
        self._whose = whose
        """An id for the log."""

    @property
    def is_free(self) -> bool:
        """Whether what is kept takes nothing of the budget."""
        return self._share is None or not self._share.held

    def reckon(self, kept: int) -> None:
        """Take note of how much is kept now. Raises NoMemory when there is no room for it."""
        share = self._share
        if share is None:
            if kept <= FREE_FRAME_BYTES:
                return
            share = self._share = self._open_share()
        wanted = FRAME_FACTOR * kept if kept > FREE_FRAME_BYTES else 0
        if not share.grow_to(wanted):
            raise NoMemory(self._whose, "the gateway has no room for the stream")
        share.shrink_to(wanted)
