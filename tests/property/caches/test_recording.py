"""Frames of one stream for several readers: who stays reads all of them, and nothing is held behind the last one."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.caches import recording as module
from capstan_gateway.pipeline.caches.recording import Reader, Recording
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.upstream.errors import NoMemory
from support.wait import eventually

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 300)),
        st.tuples(st.just("join"), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, 9)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(0, 600), st.integers(64, 4000), st.booleans())
def test_every_reader_reads_the_same_bytes(steps: list[tuple[str, int]], most: int, limit: int, breaks: bool) -> None:
    """Whatever the order of frames, readers that come, read and leave: each has a prefix of the same bytes, all of them
    when it stays; and nothing of the budget is held when it is over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FREE_BYTES", 16)
        asyncio.run(_read_all(steps, most, limit, breaks))


async def _read_all(steps: list[tuple[str, int]], most: int, limit: int, breaks: bool) -> None:
    budget = MemoryBudget(limit)
    recording = Recording(budget.share(), whose="e", most=most)
    come, had, lost = b"", dict[Reader, bytes](), False
    for step, number in steps:
        readers = list(had)
        if step == "add":
            run = bytes([number % 251]) * number
            try:
                recording.add(run)
            except NoMemory:
                lost = True
                break
            come += run
        elif step == "join":
            if recording.is_kept:
                had[recording.reader()] = b""
        elif readers:
            reader = readers[number % len(readers)]
            had[reader] += reader.ready()
            if step == "leave":
                reader.close()
                assert come.startswith(had.pop(reader))
        assert budget.held <= len(come)
    error = StreamBroken("no") if breaks or lost else None
    recording.end(error)
    recording.close()
    for reader in had:
        try:
            while data := await reader.read():
                had[reader] += data
            assert error is None
            assert reader.is_done
        except StreamBroken:
            assert error is not None
            assert not reader.is_done
        assert come == had[reader] or lost
        reader.close()
    assert budget.held == 0


def a_recording(**options: Any) -> tuple[Recording, MemoryBudget]:
    """Give one, and what it is taken from."""
    budget = MemoryBudget(1 << 26)
    return Recording(budget.share(), whose="e", **options), budget


async def test_a_reader_that_does_not_read_holds_up_nobody_for_ever() -> None:
    """Of a long stream, one that does not move is left behind as soon as another one waits, and is told so."""
    recording, _ = a_recording(most=0, stall_seconds=0.02)
    slow, quick = recording.reader(), recording.reader()
    recording.add(b"x" * 300_000)
    assert len(await quick.read()) == 300_000
    waiting = asyncio.create_task(quick.read())
    await recording.room()
    recording.add(b"y")
    assert await waiting == b"y"
    with pytest.raises(StreamBroken):
        await slow.read()


async def test_a_lone_reader_may_be_as_slow_as_it_is() -> None:
    """The engine waits for it, and reads on when it does."""
    recording, _ = a_recording(most=0, stall_seconds=0.01)
    reader = recording.reader()
    recording.add(b"x" * 300_000)
    pump = asyncio.create_task(recording.room())
    await asyncio.sleep(0.05)
    assert not pump.done()
    assert len(reader.ready()) == 300_000
    await pump


async def test_who_leaves_lets_the_engine_go_on() -> None:
    """The pump waits for nobody who is not there any more."""
    recording, budget = a_recording(most=0)
    reader, other = recording.reader(), recording.reader()
    recording.add(b"x" * 300_000)
    assert other.ready()
    pump = asyncio.create_task(recording.room())
    await asyncio.sleep(0)
    reader.close()
    await pump
    assert budget.held == 0


async def test_what_does_not_fit_into_the_budget_is_not_kept_and_still_read() -> None:
    """Where the gateway has no room for all of a stream, it goes on for those who read it, and nobody joins."""
    budget = MemoryBudget(400_000)
    recording = Recording(budget.share(), whose="e")
    reader = recording.reader()
    for _ in range(40):
        recording.add(b"x" * 20_000)
        assert len(await reader.read()) == 20_000
    assert not recording.is_kept
    assert recording.body() is None
    assert budget.held == 0


async def test_what_a_slow_reader_has_not_read_is_held_of_the_budget() -> None:
    """Also when the engine has said all: until it has read it, or leaves."""
    recording, budget = a_recording()
    reader = recording.reader()
    recording.add(b"x" * 1_000_000)
    recording.end()
    recording.close()
    assert budget.held == 1_000_000
    reader.close()
    await eventually(lambda: budget.held == 0)
