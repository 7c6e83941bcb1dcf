"""Policies in mode Shadow look on beside the requests: nobody waits for them, and without room they do not look."""

import logging
from asyncio import Task
from collections.abc import Awaitable, Callable
from typing import Any, Final

from capstan_gateway.errors import Overloaded
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.background import Background

MOST_AT_ONCE: Final = 64
HELD_FACTOR: Final = 3
"""How much memory a look takes, by the size of what is looked at: its texts, and its document."""
NANO: Final = 10**9
"""Nano-dollars of a dollar."""
log: Final = logging.getLogger(__name__)


class Shadows:
    """What looks on now, of all policies together."""

    def __init__(
        self, background: Background, budget: MemoryBudget, most: int = MOST_AT_ONCE, *, nano_dollars: int = NANO
    ) -> None:
        """Make it. `nano_dollars`: what the looks of each policy may spend in an hour, before they ask nobody."""
        self.nano_dollars: Final = nano_dollars
        self._background = background
        self._budget = budget
        self._left = most

    def look(self, work: Callable[[], Awaitable[None]], *, size: int) -> bool:
        """Begin to look at something of so many bytes; False when there is no room, and nobody looks."""
        if not self._left:
            return False
        share = self._budget.share()
        if not share.grow_easily(HELD_FACTOR * size):
            return False
        try:
            task = self._background.start(_done(work))
        except Overloaded:
            share.release()
            return False
        self._left -= 1

        def leave(_: Task[Any]) -> None:
            share.release()
            self._left += 1

        task.add_done_callback(leave)
        return True


async def _done(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception as error:  # It is nobody's request: who waits for it would be told.
        log.exception("a policy in mode Shadow could not look", extra={"reason": type(error).__name__})
