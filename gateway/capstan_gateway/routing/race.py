"""Two attempts at one request: the second begins when the first is late, and one answer is left at the end.

What becomes of each attempt is told to its endpoint where it ends (`dispatch.Dispatcher`, `dispatched.Answer`), also of
the one whose error or answer nobody gets to see.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import StrEnum
from typing import Any

from capstan_gateway.routing.dispatched import Answer
from capstan_gateway.upstream.errors import UpstreamError


class HedgeOutcome(StrEnum):
    """How a second attempt ended, for metrics."""

    WON = "won"
    LOST = "lost"
    FAILED = "failed"
    ABANDONED = "abandoned"
    """The client left while both were under way."""


class Race:
    """One race. Whatever happens, no attempt outlives it, and of two answers one is closed.

    The first attempt runs in the caller's own task, so that a request whose first token is in time costs a timer and
    nothing else.
    """

    __slots__ = ("_decided", "_good", "_loop", "_overtaken", "_second", "_start_second", "_task", "outcome")

    def __init__(
        self, start_second: Callable[[], Coroutine[Any, Any, Answer] | None], good: Callable[[Answer], bool]
    ) -> None:
        self._start_second = start_second
        self._good = good
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None, "a race runs in a task"  # noqa: S101
        self._task = task
        self._overtaken = False
        """Whether the first attempt was cancelled because the second one has won."""
        self._second: asyncio.Task[Answer] | None = None
        self._decided = False
        self.outcome: HedgeOutcome | None = None
        """None: there was no second attempt."""

    @property
    def overtaken(self) -> bool:
        """Whether the first attempt was still without an answer when the second one won."""
        return self._overtaken and self.outcome is HedgeOutcome.WON

    async def run(self, first: Coroutine[Any, Any, Answer], *, after: float) -> Answer:
        """Give the answer that began first and is good; without one, what the first attempt gave or raised."""
        timer = self._loop.call_later(after, self._late)
        try:
            answer = await self._run(first, timer)
        except UpstreamError:
            self._name(HedgeOutcome.FAILED)
            raise
        else:
            self._name(HedgeOutcome.FAILED if self._second_failed() else HedgeOutcome.LOST)
            return answer
        finally:
            timer.cancel()
            self._decided = True
            self._drop()

    async def _run(self, first: Coroutine[Any, Any, Answer], timer: asyncio.TimerHandle) -> Answer:
        answer: Answer | None = None
        try:
            answer = await first
        except asyncio.CancelledError:
            if not self._overtaken or self._task.uncancel():
                raise  # The client has left, perhaps in the same moment.
            return self._take()
        except UpstreamError:
            timer.cancel()
            self._decided = True
            if not await self._second_is_good():
                raise
            return self._take()
        timer.cancel()
        self._decided = True
        if self._good(answer):
            return answer
        try:
            if not await self._second_is_good():
                return answer
        except BaseException:
            answer.close()
            raise
        answer.close()
        return self._take()

    def _late(self) -> None:
        """Begin the second attempt."""
        coroutine = self._start_second()
        if coroutine is not None:
            self.outcome = HedgeOutcome.ABANDONED
            self._second = self._loop.create_task(coroutine)
            self._second.add_done_callback(self._arrived)

    def _arrived(self, second: asyncio.Task[Answer]) -> None:
        if _answered(second) and not self._decided and self._good(second.result()):
            self._decided = self._overtaken = True
            self._task.cancel()

    async def _second_is_good(self) -> bool:
        """Wait for the second attempt; False when it fails as well, or never began."""
        if self._second is None:
            return False
        with suppress(UpstreamError):
            return self._good(await self._second)
        return False

    def _second_failed(self) -> bool:
        second = self._second
        return second is not None and second.done() and not (_answered(second) and self._good(second.result()))

    def _name(self, outcome: HedgeOutcome) -> None:
        if self.outcome is HedgeOutcome.ABANDONED:
            self.outcome = outcome

    def _take(self) -> Answer:
        second, self._second = self._second, None
        assert second is not None, "only a second attempt can have won"  # noqa: S101
        self.outcome = HedgeOutcome.WON
        return second.result()

    def _drop(self) -> None:
        """Cut the second attempt off; its answer, if there is one by then, is closed."""
        second, self._second = self._second, None
        if second is None:
            return
        if second.done():
            _close(second)
        else:
            second.add_done_callback(_close)
            second.cancel()


def _answered(task: asyncio.Task[Answer]) -> bool:
    return not task.cancelled() and task.exception() is None


def _close(task: asyncio.Task[Answer]) -> None:
    if _answered(task):
        task.result().close()
