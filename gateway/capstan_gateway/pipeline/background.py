"""Work that belongs to no client: what several wait for, and what the gateway does for its own sake."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from capstan_gateway.errors import Overloaded

MAX_TASKS: Final = 4096


class Background:
    """The tasks that belong to no client. Bounded, and ended with the process."""

    def __init__(self, limit: int = MAX_TASKS) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin to work; Overloaded when there is too much already, or the process ends."""
        if self._closed or len(self._tasks) >= self._limit:
            work.close()
            raise Overloaded("the gateway is full; try again")
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Cancel what is left, and wait for its end."""
        self._closed = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
