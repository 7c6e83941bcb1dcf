"""Between those who have something to write and must not wait, and whoever writes it.

put ──► queue (bounded; what does not fit is dropped, and counted) ──► write(batch), one at a time
             ▲                                                            │ failed
             └────────── kept, and tried again after a pause ◄────────────┘   (a batch that keeps failing is dropped)
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from random import Random
from typing import Final, Generic, TypeVar

from capstan_gateway.life.pauses import doubled

log = logging.getLogger(__name__)

T = TypeVar("T")
FIRST_PAUSE: Final = 0.1
MOST_PAUSE: Final = 5.0


class Outbox(Generic[T]):
    """Implements `lifecycle.Part`. Items are written in the order in which they came, each at least once."""

    def __init__(
        self,
        name: str,
        write: Callable[[list[T]], Awaitable[None]],
        *,
        rng: Random | None = None,
        capacity: int = 4096,
        batch: int = 512,
        every_seconds: float = 0.25,
        attempts: int = 8,
        on_dropped: Callable[[int], None] = lambda _: None,
        on_left: Callable[[list[T]], None] = lambda _: None,
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        """`expected` are errors of which somebody else tells: they are no faults, and nothing is logged of them."""
        self.name = name
        self.dropped = 0
        """How many items nobody will write."""
        self._write = write
        self._rng = rng or Random()  # noqa: S311 - jitter
        self._capacity = capacity
        self._batch = batch
        self._every = every_seconds
        self._attempts = attempts
        self._on_dropped = on_dropped
        self._on_left = on_left
        """Hears of all items that were taken and wait no more: they are written, or nobody will write them."""
        self._expected = expected
        self._items: deque[T] = deque()
        self._arrived = asyncio.Event()
        self._writing = asyncio.Lock()
        self._failures = 0
        self._told = False
        """Whether the log knows why nothing can be written now."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Take an item; False when it was dropped because there is no room."""
        items = self._items
        if len(items) >= self._capacity:
            self._drop(1)
            return False
        if not items:
            self._arrived.set()
        items.append(item)
        return True

    def take_all(self) -> list[T]:
        """Give everything that waits, and forget it: somebody else writes it."""
        items = list(self._items)
        self._items.clear()
        self._arrived.clear()
        return items

    async def run(self) -> None:
        """Write for ever: what came together within a moment in one go."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(self._every)
            while self._items:
                if not await self.write_some():
                    await asyncio.sleep(self._pause())

    async def write_some(self) -> bool:
        """Write one batch; False when that failed. What failed too often is dropped."""
        async with self._writing:
            batch = list(islice(self._items, self._batch))
            if not batch:
                self._arrived.clear()
                return True
            try:
                await self._write(batch)
            except Exception as error:
                self._failures += 1
                if not self._told and not isinstance(error, self._expected):
                    self._told = True
                    log.warning("could not write an outbox", exc_info=error, extra={"outbox": self.name})
                if self._failures < self._attempts:
                    return False
                self._drop(len(batch))
            self._failures, self._told = 0, False
            self._on_left([self._items.popleft() for _ in range(min(len(batch), len(self._items)))])
            if not self._items:
                self._arrived.clear()
            return True

    def not_ready(self) -> str | None:
        """Never keep requests away: an outbox is there so that nobody waits."""
        return None

    async def aclose(self) -> None:
        """Write what is left, once; what fails now is dropped. Whoever calls gives it a deadline."""
        try:
            while self._items and await self.write_some():
                pass
        finally:
            self._drop(len(self._items))
            self._on_left(self.take_all())

    def _pause(self) -> float:
        return doubled(FIRST_PAUSE, MOST_PAUSE, self._failures - 1) * self._rng.uniform(0.5, 1.5)

    def _drop(self, count: int) -> None:
        if count:
            self.dropped += count
            self._on_dropped(count)
