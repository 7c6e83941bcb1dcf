"""How many entries a worker takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_worker.engine.http import HttpEngine
from capstan_worker.engine.kinds import EngineKind
from capstan_worker.errors import EngineError, EngineUnreachable
from capstan_worker.queue.load import FEW, MetricsMeter, read_load, read_pulse
from capstan_worker.queue.room import FULL_MEMORY, Load, room_for, spare_room

counts = st.integers(0, 300)


@given(st.integers(1, 300), counts, st.none() | counts, st.none() | st.builds(Load, counts, st.just(0)))
def test_room_is_never_more_than_anything_says(places: int, mine: int, told: int | None, load: Load | None) -> None:
    """What is taken fits beside our own, beside what the engine says, and beside what its metrics say."""
    room = room_for(places, mine, told=told, load=load)
    assert 0 <= room <= max(places - mine, 0)
    assert told is None or room <= told
    assert load is None or room <= max(places - load.busy, 0)


@pytest.mark.parametrize(
    ("load", "since", "room"),
    [
        (Load(3, 0), 0, 5),
        (Load(3, 0), 2, 3),
        (Load(3, 0), -2, 7),
        (Load(3, 1), 0, 0),
        (Load(3, 0, FULL_MEMORY), 0, 0),
        (Load(0, 0, FULL_MEMORY), 0, 8),
        (Load(9, 0), -20, 8),
    ],
)
def test_what_the_metrics_say(load: Load, since: int, room: int) -> None:
    """Nothing is taken while something waits in the engine or its KV cache is full; what has come and gone since the
    metrics were read is counted; a cache that is full of nothing that runs is none that is full."""
    assert room_for(8, 0, load=load, since=since) == room


def test_the_spare_room() -> None:
    """A share of the places, rounded up, stays free for what is more urgent."""
    assert [spare_room(room, 8, 25) for room in (0, 2, 3, 8)] == [0, 0, 1, 6]
    assert spare_room(3, 3, 25) == 2
    assert spare_room(1, 1, 0) == 1


def test_metrics_are_read_as_engines_write_them() -> None:
    """Sequences that run and wait, and the use of the KV cache under the names of old and new releases."""
    vllm = 'vllm:num_requests_running{a="b"} 3.0\nvllm:num_requests_waiting 2\nvllm:gpu_cache_usage_perc 0.5\n'
    assert read_load(vllm, EngineKind.VLLM) == Load(5, 2, 0.5)
    assert read_load(vllm, EngineKind.SGLANG) is None
    assert read_load(vllm, EngineKind.OPENAI_COMPATIBLE) is None
    assert read_load("tgi_batch_current_size 2\n", EngineKind.TGI) == Load(2, 0)
    assert read_pulse("vllm:generation_tokens_total 5\nvllm:prompt_tokens_total 6\n") == 11
    assert read_pulse("") is None


class _Engine(HttpEngine):
    text: bytes | Exception = b""
    reads = 0

    async def metrics(self) -> bytes:
        self.reads += 1
        if isinstance(self.text, Exception):
            raise self.text
        return self.text


def _vllm(running: int, waiting: int = 0) -> bytes:
    return f"vllm:num_requests_running {running}\nvllm:num_requests_waiting {waiting}\n".encode()


async def test_metrics_are_asked_for_now_and_then() -> None:
    """What our own entries have changed since the last look needs no other one."""
    engine = _Engine("http://engine", EngineKind.VLLM)
    engine.text = _vllm(2)
    meter = MetricsMeter(engine, EngineKind.VLLM, places=8, seconds=3600)
    assert [await meter.room(mine) for mine in (2, 5, 1)] == [6, 3, 7]
    assert engine.reads == 1


async def test_an_engine_of_unknown_size_is_given_a_few_at_a_time() -> None:
    """It may have fewer places than are usual: whether some wait in it is seen before it is given more."""
    engine = _Engine("http://engine", EngineKind.VLLM)
    engine.text = _vllm(0)
    meter = MetricsMeter(engine, EngineKind.VLLM, places=256, careful=True, seconds=0)
    assert await meter.room(0) == FEW
    engine.text = _vllm(40)
    assert await meter.room(40) == 20
    engine.text = _vllm(40, waiting=1)
    assert await meter.room(40) == 0


async def test_an_engine_of_unknown_size_has_room_to_spare() -> None:
    """A share of what it is known to have, and may be given, stays free: else an idle one would never work on class
    batch."""
    engine = _Engine("http://engine", EngineKind.VLLM)
    meter = MetricsMeter(engine, EngineKind.VLLM, places=256, careful=True, seconds=0)
    spare = {}
    for running in (0, 40, 200):
        engine.text = _vllm(running)
        spare[running] = spare_room(await meter.room(running), meter.places, 25)
    assert spare == {0: FEW - 1, 40: 5, 200: 0}


async def test_an_engine_that_tells_nothing() -> None:
    """Where nothing listens there is no room; where metrics are odd or away the number of places counts."""
    engine = _Engine("http://engine", EngineKind.VLLM)
    meter = MetricsMeter(engine, EngineKind.VLLM, places=8, seconds=0)
    engine.text = EngineUnreachable("gone")
    assert await meter.room(1) == 0
    for text in (EngineError("late"), b"vllm:num_requests_running nonsense\n", b""):
        engine.text = text
        assert await meter.room(1) == 7
    assert await meter.pulse() is None
