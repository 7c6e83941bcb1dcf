"""The clock of the running event loop in a test's hands: what then depends on time depends on no machine's speed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class LoopClock:
    """Goes with the real time until the test stops it or puts it forward."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._real = loop.time
        self._ahead = 0.0
        self._stopped_at: float | None = None

    def time(self) -> float:
        """Give the loop's time."""
        return self._real() + self._ahead if self._stopped_at is None else self._stopped_at

    def put_forward(self, seconds: float) -> None:
        """Let this time be over now: every timer that was set for it fires."""
        self._ahead += seconds

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let no time pass inside the block: no timer fires, and only I/O goes on."""
        self._stopped_at = self.time()
        try:
            yield
        finally:
            self._ahead = self._stopped_at - self._real()
            self._stopped_at = None


@contextmanager
def loop_clock() -> Iterator[LoopClock]:
    """Take over the running loop's clock; begin before what is tested starts, which may keep the clock it finds."""
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    loop.time = clock.time  # type: ignore[method-assign]
    try:
        yield clock
    finally:
        del loop.time  # type: ignore[method-assign]
