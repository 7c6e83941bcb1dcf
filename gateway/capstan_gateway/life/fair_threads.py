"""A few threads that several share, so that none of them keeps the others waiting.

Of work that waits, each of them in turn has one piece done; and none has more than some of the threads at once, so that
whoever else comes finds one soon, however long the work of the first takes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from capstan_gateway.life.threads import Busy, Threads

T = TypeVar("T")


class FairThreads:
    """Runs functions in at most `workers` threads, of one of those who share them in at most `of_one`.

    At most `queued` pieces of work wait. Where no more may, who has most of them waiting gives up a place to who has
    fewer: nobody's many keep others out. Only the loop's thread touches it.
    """

    def __init__(self, name: str, *, workers: int, of_one: int, queued: int) -> None:
        self._name = name
        self._threads = Threads(name, workers=workers, queued=0)
        self._free = workers
        self._of_one = of_one
        self._queued = queued
        self._at_work: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By who waits; whose turn is next stands first."""
        self._count = 0

    async def run(self, whose: str, function: Callable[..., T], *arguments: Any) -> T:
        """Give what the function returns, or raises. Raises Busy when too much is waiting, or no thread can be had.

        When the caller is cancelled, work that has begun goes on unheard and keeps its thread to its end; work that has
        not is left out.
        """
        if self._may_begin(whose):
            self._begin(whose)
        else:
            await self._turn(whose)
        work = asyncio.ensure_future(self._threads.run(function, *arguments))
        work.add_done_callback(partial(self._done, whose))
        await asyncio.wait((work,))  # Unlike a plain await it leaves the work alone when this is cancelled.
        return work.result()

    def close(self) -> None:
        """Let the threads end when they have done what they are at; nobody waits for them."""
        self._threads.close()

    def _may_begin(self, whose: str) -> bool:
        return self._free > 0 and self._at_work.get(whose, 0) < self._of_one

    def _begin(self, whose: str) -> None:
        self._free -= 1
        self._at_work[whose] = self._at_work.get(whose, 0) + 1

    async def _turn(self, whose: str) -> None:
        """Wait for a thread; it is ours when this returns."""
        if self._count >= self._queued:
            self._make_room(whose)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, deque()).append(turn)
        self._count += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(whose)
            else:
                self._forget(whose, turn)
            raise

    def _make_room(self, whose: str) -> None:
        """Send away the newest of who has most waiting; raises Busy where that would be one who has no more than this
        one then has."""
        most = max(self._waiting, key=lambda one: len(self._waiting[one]), default=whose)
        own = self._waiting.get(most)
        if own is None or len(own) <= len(self._waiting.get(whose, ())) + 1:
            raise self._busy()
        turn = own.pop()
        self._count -= 1
        if not turn.done():  # One that was cancelled in this turn of the loop has not left yet.
            turn.set_exception(self._busy())

    def _busy(self) -> Busy:
        return Busy(f"too much work waits for the threads of '{self._name}'")

    def _forget(self, whose: str, turn: asyncio.Future[None]) -> None:
        own = self._waiting.get(whose)
        if own is not None and turn in own:
            own.remove(turn)
            self._count -= 1
            if not own:
                del self._waiting[whose]

    def _done(self, whose: str, work: asyncio.Future[Any]) -> None:
        if not work.cancelled():
            work.exception()  # Whoever was cancelled hears of it no more.
        self._leave(whose)

    def _leave(self, whose: str) -> None:
        self._free += 1
        left = self._at_work[whose] - 1
        if left:
            self._at_work[whose] = left
        else:
            del self._at_work[whose]
        while (following := next(filter(self._may_begin, self._waiting), None)) is not None:
            self._call(following)

    def _call(self, whose: str) -> None:
        """Have the first piece of work of one begin; those of all others are then in front of the next."""
        own = self._waiting.pop(whose)
        turn = own.popleft()
        self._count -= 1
        if own:
            self._waiting[whose] = own
        if not turn.done():
            self._begin(whose)
            turn.set_result(None)
