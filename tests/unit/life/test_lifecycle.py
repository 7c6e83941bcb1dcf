"""Outboxes, stores, and the end in order."""

import asyncio
import logging
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.life.lifecycle import Closing, Lifecycle, Phase
from capstan_gateway.life.outbox import FIRST_PAUSE, MOST_PAUSE, Outbox
from support.virtualtime import run_virtually


class Sink:
    """Takes batches, or fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.batches: list[list[int]] = []
        self.calls = 0

    async def write(self, batch: list[int]) -> None:
        """Take a batch."""
        self.calls += 1
        await asyncio.sleep(0.01)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("away")
        self.batches.append(batch)

    @property
    def written(self) -> list[int]:
        """All items."""
        return [item for batch in self.batches for item in batch]


def outbox(sink: Sink, **options: int) -> Outbox[int]:
    """An outbox before this sink."""
    return Outbox("test", sink.write, rng=Random(1), **options)  # type: ignore[arg-type]  # noqa: S311


async def _run(box: Outbox[int], seconds: float) -> None:
    task = asyncio.create_task(box.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 12), st.integers(0, 3), st.booleans())
def test_every_item_is_written_in_order_or_counted_as_dropped(
    capacity: int, batch: int, count: int, failures: int, close: bool
) -> None:
    """Whatever fails in between, and however full it is: nothing is lost without being counted, nothing comes twice."""
    sink = Sink(failures)
    counted: list[int] = []
    left: list[int] = []

    async def main() -> None:
        box = Outbox(
            "t", sink.write, rng=Random(1), capacity=capacity, batch=batch,  # noqa: S311
            on_dropped=counted.append, on_left=left.extend,
        )  # fmt: skip
        taken = [item for item in range(count) if box.put(item)]
        assert len(box) == len(taken) == min(count, capacity)
        if close:
            await box.aclose()
        else:
            await _run(box, 60.0)
        assert len(box) == 0
        assert sink.written == taken[: len(sink.written)]
        assert len(sink.written) + box.dropped == count
        assert sum(counted) == box.dropped
        assert left == taken  # Whoever put them in hears of each one's end, once.
        if not close:
            assert sink.written == taken
        assert all(len(one) <= batch for one in sink.batches)

    run_virtually(main())


def test_a_batch_that_never_goes_makes_room_for_the_others() -> None:
    """A poison item is given up after some attempts, and counted."""

    async def main() -> None:
        sink = Sink(failures=3)
        box = outbox(sink, batch=1, attempts=3)
        box.put(1)
        box.put(2)
        await _run(box, 60.0)
        assert (sink.written, box.dropped) == ([2], 1)

    run_virtually(main())


def test_a_fault_behind_an_expected_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Once for each time that nothing can be written: what somebody else tells of hides no other fault."""
    errors: list[Exception] = [OSError("away"), ValueError("a bug"), ValueError("a bug"), OSError("away")]

    async def write(_: list[int]) -> None:
        if errors:
            raise errors.pop(0)

    async def main() -> None:
        box = Outbox("test", write, rng=Random(1), expected=(OSError,))  # noqa: S311
        for _ in range(2):
            box.put(1)
            await _run(box, 60.0)
            errors.extend([ValueError("again")] if not errors else [])

    with caplog.at_level(logging.WARNING):
        run_virtually(main())
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["a bug", "again"]


def test_nothing_to_write_costs_no_turns() -> None:
    """An outbox without items sets no timer: the loop could wait for ever."""

    async def main() -> int:
        sink = Sink()
        box = outbox(sink)
        await _run(box, 1000.0)
        return sink.calls

    assert run_virtually(main()) == 0


class Store:
    """A store that a test makes: it connects, is ready then, and writes what its outbox holds."""

    def __init__(self, name: str, told: list[str], *, closes: float = 0.0, error: Exception | None = None) -> None:
        self.name = name
        self.told = told
        self.closes = closes
        self.error = error
        self.connected = asyncio.Event()

    async def run(self) -> None:
        self.told.append(f"{self.name} runs")
        self.connected.set()
        await asyncio.Event().wait()

    def not_ready(self) -> str | None:
        return None if self.connected.is_set() else "not connected"

    async def aclose(self) -> None:
        await asyncio.sleep(self.closes)
        self.told.append(f"{self.name} closed")
        if self.error is not None:
            raise self.error


def test_parts_end_in_order_and_none_stops_another() -> None:
    """Outboxes, then stores, then clients, the youngest of a phase first; errors and slow ends cost only themselves."""
    told: list[str] = []

    async def main() -> float:
        life = Lifecycle(close_seconds=2.0)
        life.add(Closing("client", Store("client", told).aclose), Phase.CLIENT)
        life.add(Store("redis", told, error=ConnectionError("away")), Phase.STORE)
        life.add(Store("hangs", told, closes=3600.0), Phase.STORE)
        life.add(Store("audit", told), Phase.OUTBOX)
        life.add(Store("log", told), Phase.OUTBOX)
        began = asyncio.get_running_loop().time()
        await life.aclose()
        return asyncio.get_running_loop().time() - began

    assert run_virtually(main()) == pytest.approx(2.0)
    assert told == ["log closed", "audit closed", "redis closed", "client closed"]


async def test_readiness_is_that_of_all_parts() -> None:
    """A store that is not connected keeps requests away, and is named."""
    told: list[str] = []
    life = Lifecycle()
    first, second = Store("limits", told), Store("cache", told)
    life.add(first, Phase.STORE)
    life.add(second, Phase.STORE)
    assert life.not_ready() == "limits: not connected"
    tasks = [asyncio.create_task(job.run()) for job in life.jobs]
    await first.connected.wait()
    await second.connected.wait()
    assert life.not_ready() is None
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_part_that_only_ends_keeps_no_request_away() -> None:
    """Connections that others use: they run nothing, are ready, and are named for whoever reports of them."""
    ended: list[str] = []

    async def close() -> None:
        ended.append("client")

    life = Lifecycle()
    life.add(Closing("client", close), Phase.CLIENT)
    (job,) = life.jobs
    assert (job.name, life.not_ready()) == ("client", None)
    await job.run()
    assert ended == []
    await life.aclose()
    assert ended == ["client"]


class Least(Random):
    """Jitter that is always at one end."""

    def uniform(self, a: float, b: float) -> float:
        return a


class Most(Random):
    """The other end."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Timed(Sink):
    """A sink that remembers when it was asked."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__(failures)
        self.asked: list[float] = []

    async def write(self, batch: list[int]) -> None:
        self.asked.append(asyncio.get_running_loop().time())
        await super().write(batch)

    @property
    def gaps(self) -> list[float]:
        """Seconds from the end of one write to the next one."""
        return [later - sooner - 0.01 for sooner, later in pairwise(self.asked)]


@pytest.mark.parametrize(("jitter", "factor"), [(Least, 0.5), (Most, 1.5)])
def test_pauses_behind_failures_double_up_to_a_bound(jitter: type[Random], factor: float) -> None:
    """With jitter, so that replicas do not come back together; a write that goes well starts them anew."""

    async def main() -> None:
        sink = Timed(failures=8)
        box = Outbox("t", sink.write, rng=jitter(), attempts=9)  # type: ignore[abstract]
        task = asyncio.create_task(box.run())
        box.put(1)
        await asyncio.sleep(100)
        pauses = [min(FIRST_PAUSE * 2**number, MOST_PAUSE) * factor for number in range(8)]
        assert sink.gaps == pytest.approx(pauses)
        assert max(pauses) == MOST_PAUSE * factor
        assert (sink.written, box.dropped) == ([1], 0)
        sink.failures = 1
        box.put(2)
        await asyncio.sleep(100)
        assert sink.gaps[-1] == pytest.approx(FIRST_PAUSE * factor)
        task.cancel()
        await asyncio.wait([task])

    run_virtually(main())


def test_what_is_dropped_starts_the_pauses_anew_too() -> None:
    """The next batch has all of its attempts."""

    async def main() -> None:
        sink = Timed(failures=5)
        box = Outbox("t", sink.write, rng=Most(), attempts=3, batch=1)
        for item in range(3):
            box.put(item)
        await _run(box, 60.0)
        first, second = FIRST_PAUSE * 1.5, FIRST_PAUSE * 3
        assert sink.gaps == pytest.approx([first, second, 0.0, first, second, 0.0])
        assert (sink.written, box.dropped) == ([1, 2], 1)

    run_virtually(main())


def test_what_came_together_is_written_together_and_then_nothing_is_looked_at() -> None:
    """A moment after the first item, batch after batch without a pause; then no timer is left."""

    async def main() -> None:
        sink = Timed()
        box = outbox(sink, batch=2)
        task = asyncio.create_task(box.run())
        for count, gaps in ((5, [0.0, 0.0]), (5, [0.0, 0.0]), (1, [])):
            await asyncio.sleep(1)
            sink.asked.clear()
            began = asyncio.get_running_loop().time()
            for item in range(count):
                box.put(item)
            await asyncio.sleep(1)
            assert sink.asked[0] == pytest.approx(began + 0.25)
            assert sink.gaps == pytest.approx(gaps)
            timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
            assert [timer for timer in timers if not timer.cancelled()] == []
        assert sink.written == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]
        assert await box.write_some(), "to have nothing to write is no failure"
        task.cancel()
        await asyncio.wait([task])

    run_virtually(main())


def test_what_an_outbox_is_without_more_said() -> None:
    """Some thousand items, some hundred in one write, and eight attempts; it has a name and keeps no request away."""

    async def main() -> None:
        sink = Timed(failures=8)
        box: Outbox[int] = Outbox("audit", sink.write)
        assert (box.name, box.not_ready()) == ("audit", None)
        assert [box.put(item) for item in range(4098)] == [True] * 4096 + [False] * 2
        assert box.dropped == 2
        await _run(box, 100.0)
        assert box.dropped == 2 + 512
        assert [len(batch) for batch in sink.batches] == [512] * 7
        assert len(sink.asked) == 8 + 7

    run_virtually(main())


def test_what_is_taken_away_is_not_written() -> None:
    """Somebody else writes it, in order; and what comes behind is written as ever."""

    async def main() -> None:
        sink = Timed()
        box = outbox(sink)
        box.put(1)
        box.put(2)
        assert box.take_all() == [1, 2]
        assert (box.take_all(), len(box), box.dropped) == ([], 0, 0)
        await _run(box, 10.0)
        assert sink.asked == []
        box.put(3)
        await _run(box, 10.0)
        assert sink.written == [3]

    run_virtually(main())


def test_a_store_that_is_away_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not for each attempt: once in a row of failures, and again in the next row."""

    async def main() -> None:
        sink = Sink()
        box = outbox(sink)
        for number, failures in enumerate((4, 1, 2), start=1):
            sink.failures = failures
            box.put(number)
            await _run(box, 60.0)
            assert len(caplog.records) == number

    with caplog.at_level(logging.WARNING):
        run_virtually(main())
