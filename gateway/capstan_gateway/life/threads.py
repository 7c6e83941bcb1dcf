"""A few threads for one kind of blocking work, so that no kind waits for another one's.

The loop's default executor is shared by everything: a resolver that hangs would keep the log from being written. Its
queue has no bound, and its threads are waited for at the end of the process.
"""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Busy(OSError):
    """As much work of this kind as may wait does wait."""


class Threads:
    """Runs functions in at most `workers` threads of its own, while at most `queued` others wait.

    The threads begin with the first work. They are daemons: one that hangs does not keep the process from ending.
    """

    def __init__(self, name: str, *, workers: int = 1, queued: int = 64) -> None:
        self._name = name
        self._most_workers = workers
        self._most = workers + queued
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._workers = 0
        self._unfinished = 0
        """Only the loop's thread touches it, as it does the count of workers."""

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Give what the function returns, or raises. Raises Busy when too much is waiting, or no thread can be had.

        When the caller is cancelled, work that has begun goes on unheard, and work that has not is left out.
        """
        if self._unfinished >= self._most:
            raise Busy(f"too much work waits for the threads of '{self._name}'")
        if self._workers < min(self._unfinished + 1, self._most_workers):
            self._add_worker()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._unfinished += 1
        self._work.put(partial(self._do, loop, future, function, arguments))
        try:
            return await future
        finally:
            del future  # It holds the failure, whose traceback holds this frame.

    def close(self) -> None:
        """Let the threads end when they have done what waits; nobody waits for them."""
        for _ in range(self._workers):
            self._work.put(None)
        self._workers = 0

    def _add_worker(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"{self._name}-{self._workers + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The container has no thread left. One that is there does the work too; without any, nobody would.
            if not self._workers:
                raise Busy(f"there is no thread for '{self._name}'") from error
        else:
            self._workers += 1

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # What it was given may be large, and the next one may be long in coming.

    def _do(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], function: Callable[..., T], arguments: Any
    ) -> None:
        result: T | None = None
        failure: BaseException | None = None
        # NB: a failure's traceback holds this frame, and so neither it nor its future must be held by that.
        if not future.cancelled():
            try:
                result = function(*arguments)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
                failure = error
        try:
            loop.call_soon_threadsafe(self._tell, future, result, failure)
        except RuntimeError:
            return  # The loop has ended, and with it everybody who would hear of it.
        finally:
            del future, result, failure

    def _tell(self, future: asyncio.Future[T], result: Any, failure: BaseException | None) -> None:
        self._unfinished -= 1
        if future.done():
            return
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)
