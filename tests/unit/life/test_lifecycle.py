"""Outboxes, stores, and the end in order."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.life.lifecycle import Closing, Lifecycle, Phase
from capstan_gateway.life.outbox import Outbox
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

    async def main() -> None:
        box = Outbox("t", sink.write, rng=Random(1), capacity=capacity, batch=batch, on_dropped=counted.append)  # noqa: S311
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
