"""Work beside the loop: what it gives, and what is told when too much of it waits."""

import asyncio
import threading
from contextlib import closing

import pytest

from capstan_gateway.errors import Overloaded
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.beside import beside


async def test_too_much_work_is_an_overload() -> None:
    """Who finds no place in the queue of the thread is told to come back; who has one gets what the work gives."""
    gate = threading.Event()
    with closing(Threads("documents", queued=1)) as threads:
        waiting = [asyncio.create_task(beside(threads, lambda: gate.wait(30))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await beside(threads, int)
        gate.set()
        assert await asyncio.gather(*waiting) == [True, True]
        assert await beside(threads, int) == 0
        with pytest.raises(ZeroDivisionError):
            await beside(threads, lambda: 1 // 0)
