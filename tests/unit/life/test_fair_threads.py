"""Threads that several share: nobody holds all of them, and who waits is called in turn."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from capstan_gateway.life.fair_threads import FairThreads
from capstan_gateway.life.threads import Busy


class Gate:
    """Work that waits until it may end."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, name: str = "") -> str:
        """Wait."""
        self.opened.wait(30)
        return name


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    """Give a gate, which is open at the end."""
    made = Gate()
    yield made
    made.opened.set()


async def test_gives_what_the_function_gives_or_raises() -> None:
    """Result and error are the function's own."""
    threads = FairThreads("t", workers=2, of_one=1, queued=4)
    assert await threads.run("a", divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run("a", divmod, 7, 0)
    threads.close()


async def test_nobody_holds_all_threads(gate: Gate) -> None:
    """However much one has waiting, and however long it takes, another one's work is done meanwhile."""
    threads = FairThreads("t", workers=2, of_one=1, queued=16)
    first = [asyncio.create_task(threads.run("a", gate)) for _ in range(8)]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        assert await threads.run("b", int, "1") == 1
        gate.opened.set()
        await asyncio.gather(*first)
    threads.close()


async def test_those_who_wait_are_called_in_turn(gate: Gate) -> None:
    """One that has many waiting has one of them done before each of the others has had its turn."""
    threads = FairThreads("t", workers=1, of_one=1, queued=16)
    done: list[str] = []
    busy = asyncio.create_task(threads.run("x", gate))
    await asyncio.sleep(0)
    waiting = []
    for who in ("a", "a", "a", "b", "c", "b"):
        waiting.append(asyncio.create_task(threads.run(who, done.append, who)))
        await asyncio.sleep(0)
    gate.opened.set()
    async with asyncio.timeout(30):
        await asyncio.gather(busy, *waiting)
    assert done == ["a", "b", "c", "a", "b", "a"]
    threads.close()


async def test_no_more_than_some_wait(gate: Gate) -> None:
    """What finds the queue full is refused, and who stops waiting leaves its place."""
    threads = FairThreads("t", workers=1, of_one=1, queued=1)
    busy = asyncio.create_task(threads.run("a", gate))
    waits = asyncio.create_task(threads.run("b", int, "1"))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await threads.run("c", int, "2")
    waits.cancel()
    with suppress(asyncio.CancelledError):
        await waits
    last = asyncio.create_task(threads.run("c", int, "2"))
    await asyncio.sleep(0)
    gate.opened.set()
    async with asyncio.timeout(30):
        assert await asyncio.gather(busy, last) == ["", 2]
    threads.close()


async def test_work_that_is_given_up_holds_its_thread_to_its_end(gate: Gate) -> None:
    """Nobody else's work begins in its place before it has ended, and then it does."""
    threads = FairThreads("t", workers=1, of_one=1, queued=4)
    given_up = asyncio.create_task(threads.run("a", gate))
    await asyncio.sleep(0)
    given_up.cancel()
    with suppress(asyncio.CancelledError):
        await given_up
    other = asyncio.create_task(threads.run("b", int, "1"))
    await asyncio.wait((other,), timeout=0.05)
    assert not other.done()
    gate.opened.set()
    async with asyncio.timeout(30):
        assert await other == 1
    threads.close()


async def test_who_is_called_and_gives_up_at_once_gives_its_turn_on(gate: Gate) -> None:
    """A thread that was given to who is cancelled in that moment is the next one's."""
    threads = FairThreads("t", workers=1, of_one=1, queued=4)
    busy = asyncio.create_task(threads.run("a", gate))
    called = asyncio.create_task(threads.run("b", int, "1"))
    following = asyncio.create_task(threads.run("c", int, "2"))
    await asyncio.sleep(0)
    busy.add_done_callback(lambda _: called.cancel())
    gate.opened.set()
    async with asyncio.timeout(30):
        await busy
        with suppress(asyncio.CancelledError):
            await called
        assert await following == 2
        assert await threads.run("d", int, "3") == 3
    threads.close()


async def test_nobodys_many_keep_others_out(gate: Gate) -> None:
    """Where no more may wait, the newest of who has most waiting gives up its place to who has fewer; and nobody gets
    more than that one keeps."""
    threads = FairThreads("t", workers=2, of_one=1, queued=4)
    many = [asyncio.create_task(threads.run("a", gate, f"a{number}")) for number in range(5)]
    await asyncio.sleep(0)
    others = [asyncio.create_task(threads.run("b", gate, f"b{number}")) for number in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await threads.run("a", int)
    gate.opened.set()
    found = await asyncio.gather(*many, *others, return_exceptions=True)
    assert [one if isinstance(one, str) else type(one) for one in found] == [
        "a0", "a1", "a2", Busy, Busy, "b0", "b1", "b2", Busy,
    ]  # fmt: skip
    async with asyncio.timeout(30):
        assert await asyncio.gather(*(threads.run(whose, int, "1") for whose in "abc")) == [1, 1, 1]
    threads.close()


async def test_who_is_sent_away_and_cancelled_at_once_has_no_thread_to_leave(gate: Gate) -> None:
    """Both may come in one turn of the loop: what was never begun is not ended."""
    threads = FairThreads("t", workers=1, of_one=1, queued=2)
    many = [asyncio.create_task(threads.run("a", gate)) for _ in range(3)]
    await asyncio.sleep(0)
    other = asyncio.create_task(threads.run("b", gate))
    await asyncio.sleep(0)
    many[-1].cancel()
    gate.opened.set()
    await asyncio.gather(*many, other, return_exceptions=True)
    assert (threads._free, threads._at_work, threads._count) == (1, {}, 0)
    threads.close()


async def test_who_has_given_up_in_this_moment_leaves_its_place_once(gate: Gate) -> None:
    """Where room is made by whose deadline has passed in the same turn of the loop, the other one waits, and no place
    is lost."""
    threads = FairThreads("t", workers=1, of_one=1, queued=2)
    many = [asyncio.create_task(threads.run("a", gate)) for _ in range(3)]
    await asyncio.sleep(0)
    many[-1].cancel()
    # NB: no task of its own, which would only begin when the one that was cancelled has left.
    async with asyncio.timeout(30):
        asyncio.get_running_loop().call_later(0.01, gate.opened.set)
        assert await threads.run("b", int, "1") == 1
    await asyncio.gather(*many, return_exceptions=True)
    assert (threads._free, threads._at_work, threads._count) == (1, {}, 0)
    threads.close()
