"""Blocking work of one kind."""

import asyncio
import gc
import threading
import weakref
from contextlib import suppress

import pytest

from capstan_gateway.life.threads import Busy, Threads
from support.wait import PATIENCE, eventually


async def test_gives_what_the_function_gives_or_raises() -> None:
    """Result and error are the function's own."""
    threads = Threads("t")
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    threads.close()


async def test_one_kind_that_hangs_holds_up_no_other_kind() -> None:
    """Not the loop's default executor, nor other threads of ours; and it is daemons that hang."""
    gate = threading.Event()
    hangs, other = Threads("hangs", workers=2), Threads("other")
    waiting = [asyncio.create_task(hangs.run(gate.wait, 30)) for _ in range(10)]
    async with asyncio.timeout(PATIENCE):
        assert await other.run(int, "1") == 1
        assert await asyncio.to_thread(int, "2") == 2
    assert [one.daemon for one in threading.enumerate() if one.name.startswith("hangs")] == [True, True]
    gate.set()
    assert await asyncio.gather(*waiting) == [True] * 10
    hangs.close()
    other.close()


class Document:
    """Something large."""


@pytest.mark.parametrize("fails", [False, True])
async def test_nothing_that_was_worked_on_is_held(fails: bool) -> None:
    """What a function was given, and what it gave or raised, is gone when its caller has it, without the collector."""
    threads = Threads("t")
    given = Document()
    seen = weakref.ref(given)

    def work(document: Document) -> int:
        if fails:
            raise LookupError
        return 1 if document is not None else 0

    gc.collect()
    gc.disable()
    try:
        with suppress(LookupError):
            await threads.run(work, given)
        del given
        await eventually(lambda: seen() is None, what="the end of the document")
    finally:
        gc.enable()
        threads.close()


async def test_what_waits_is_bounded() -> None:
    """More than may wait is refused at once; there is room again when something is done."""
    gate = threading.Event()
    threads = Threads("t", workers=1, queued=2)
    waiting = [asyncio.create_task(threads.run(gate.wait, 30)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Busy, match="'t'"):
        await threads.run(int)
    gate.set()
    await asyncio.gather(*waiting)
    assert await threads.run(int) == 0
    threads.close()


async def test_work_that_nobody_waits_for_any_more_is_left_out() -> None:
    """Unless it has begun; and its place in the queue is free."""
    gate, done = threading.Event(), []
    threads = Threads("t", workers=1, queued=1)
    first = asyncio.create_task(threads.run(gate.wait, 30))
    second = asyncio.create_task(threads.run(done.append, "second"))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    gate.set()
    await first
    assert await threads.run(int) == 0
    assert done == []
    threads.close()


async def test_without_more_said_there_is_one_thread_and_a_short_queue() -> None:
    """One at work and 64 that wait; the bound is the same however much was done before."""
    threads, known = Threads("plain"), threading.enumerate()
    for _ in range(5):
        await threads.run(int)
    for _ in range(2):
        gate = threading.Event()
        waiting = [asyncio.create_task(threads.run(gate.wait, 30)) for _ in range(65)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await threads.run(int)
        assert [one.name for one in threading.enumerate() if one not in known] == ["plain-1"]
        gate.set()
        assert await asyncio.gather(*waiting) == [True] * 65
    threads.close()


async def test_what_comes_behind_the_end_is_done_all_the_same() -> None:
    """Its threads begin anew, and those before have ended."""
    threads, known = Threads("ending", workers=2), threading.enumerate()
    gate = threading.Event()
    waiting = [asyncio.create_task(threads.run(gate.wait, 30)) for _ in range(2)]
    await asyncio.sleep(0)
    before = [one for one in threading.enumerate() if one not in known]
    assert len(before) == 2
    threads.close()
    gate.set()
    await asyncio.gather(*waiting)
    await eventually(lambda: not any(one.is_alive() for one in before), every=0.01)
    async with asyncio.timeout(PATIENCE):
        assert await threads.run(int, "3") == 3


async def test_without_a_thread_work_is_refused_and_done_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that is out of threads is told so at once: nothing waits for a thread that never came about."""
    threads = Threads("t", workers=2, queued=0)

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        for _ in range(5):
            with pytest.raises(Busy, match="no thread"):
                await asyncio.wait_for(threads.run(int), PATIENCE)
    assert await asyncio.wait_for(threads.run(int), PATIENCE) == 0
    gate = threading.Event()
    waiting = asyncio.create_task(threads.run(gate.wait, 30))
    await asyncio.sleep(0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        second = asyncio.create_task(threads.run(int))
        await asyncio.sleep(0)
    gate.set()
    assert await asyncio.wait_for(asyncio.gather(waiting, second), PATIENCE) == [True, 0]
    threads.close()
