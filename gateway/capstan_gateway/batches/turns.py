"""Whose turn it is: the requests of all batches of one gateway share so many places."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

LOOK_SECONDS: Final = 0.2
"""How often it is looked whether a model has room."""


class Turns:
    """Places for requests, first come first served."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._running: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, model: str, has_room: Callable[[int], bool], queue: asyncio.Lock) -> AsyncIterator[None]:
        """Have a place while the block lasts, as soon as the model has room; `has_room` is told how many requests of
        batches it has. Those of one batch wait behind each other in its `queue`, so that one of them looks."""
        async with queue:
            while True:
                await self._places.acquire()
                if has_room(self._running[model]):
                    break
                self._places.release()
                await asyncio.sleep(LOOK_SECONDS)
            self._running[model] += 1
        try:
            yield
        finally:
            self._running[model] -= 1
            if not self._running[model]:
                del self._running[model]
            self._places.release()
