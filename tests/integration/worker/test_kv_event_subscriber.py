"""A sidecar that listens to an engine's events, over real sockets of ZMQ."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from capstan_contract.kv_events import block_names, root_name
from support.kv_events import Listener, listening
from support.ports import free_port
from support.vllm_events import publisher, removed, stored
from support.wait import wait_until
from support.worker import Worker, get, worker

TOKENS = list(range(160))
NAMES = block_names(TOKENS, 16, before=root_name())
HASHES = [bytes([number]) * 8 for number in range(10)]


@pytest.fixture(params=["tcp", "ipc"])
def addresses(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Give where is published and told again: where the engine connects, and where it binds."""
    if request.param == "tcp":
        return f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}"
    return f"ipc://{tmp_path}/e", f"ipc://{tmp_path}/r"


@contextmanager
def sidecar(addresses: tuple[str, str]) -> Iterator[Worker]:
    """Run a sidecar whose engine does nothing but publish."""
    engine = ["--engine", "vLLM", "--engine-url", f"http://127.0.0.1:{free_port()}", "--model", "m"]
    told = ["--kv-events", addresses[0], "--kv-events-replay", addresses[1], "--settle-seconds", "0.1"]
    with worker("sidecar", [*engine, *told], wait_ready=False) as started:
        wait_until(lambda: get(f"{started.worker_url}/healthz")[0] == 200, what="the worker port")
        yield started


def block(number: int) -> dict[str, object]:
    """Give the event of one block of the prompt, behind the one before."""
    parent = HASHES[number - 1] if number else None
    return stored([HASHES[number]], TOKENS[number * 16 : number * 16 + 16], parent=parent, extra_keys=[None])


def told(reader: Listener, count: int) -> None:
    """Wait until exactly the first blocks of the prompt are told."""
    reader.wait_for(set(NAMES[:count]), what=f"{count} blocks")


def test_what_is_published_is_told(addresses: tuple[str, str]) -> None:
    """Blocks that an engine stores and removes come and go at who listens to the worker."""
    with sidecar(addresses) as started, publisher(*addresses) as engine, listening(started.worker_port) as reader:
        for number in range(4):
            engine.publish(block(number))
        told(reader, 4)
        engine.publish(removed([HASHES[3]]))
        told(reader, 3)
        engine.publish({"type": "AllBlocksCleared"})
        told(reader, 0)
        assert started.metric("capstan_worker_kv_events_total") == 6
        assert started.metric("capstan_worker_kv_event_gaps_lost_total") == 0


def test_what_was_missed_is_asked_for(addresses: tuple[str, str]) -> None:
    """Batches that are lost on their way are told again, before the next one is taken."""
    with sidecar(addresses) as started, publisher(*addresses) as engine, listening(started.worker_port) as reader:
        engine.publish(block(0))
        told(reader, 1)
        for number in range(1, 5):
            engine.publish(block(number), heard=False)
        engine.publish(block(5))
        told(reader, 6)
        assert started.metric("capstan_worker_kv_event_gaps_total") == 1
        assert started.metric("capstan_worker_kv_event_gaps_lost_total") == 0


def test_what_cannot_be_had_again_begins_anew(addresses: tuple[str, str]) -> None:
    """Where the engine no longer has what was missed, what is known is thrown away and told to be."""
    with (
        sidecar(addresses) as started,
        publisher(*addresses, kept=1) as engine,
        listening(started.worker_port) as reader,
    ):
        engine.publish(block(0))
        told(reader, 1)
        engine.publish(block(1), heard=False)
        engine.publish(removed([HASHES[0]]), heard=False)
        engine.publish(stored([b"x"], range(7, 23)))
        reader.wait_for(set(block_names(range(7, 23), 16, before=root_name())), what="only what is known")
        assert any(change.cleared for change in reader.changes)
        assert started.metric("capstan_worker_kv_event_gaps_lost_total") == 1


def test_another_engine_has_nothing_of_the_one_before(addresses: tuple[str, str]) -> None:
    """When an engine ends its blocks are gone at once; the next one is followed from its first batch on."""
    with sidecar(addresses) as started, listening(started.worker_port) as reader:
        with publisher(*addresses) as engine:
            engine.publish(block(0), block(1))
            told(reader, 2)
        told(reader, 0)
        with publisher(*addresses) as engine:
            engine.publish(block(0))
            told(reader, 1)
            engine.publish(block(1))
            told(reader, 2)


def test_a_worker_that_comes_late_asks_for_what_was(addresses: tuple[str, str]) -> None:
    """One that begins after its engine has what the engine can tell again, although nothing new is published."""
    with publisher(*addresses) as engine:
        for number in range(5):
            engine.publish(block(number))
        with sidecar(addresses) as started, listening(started.worker_port) as reader:
            told(reader, 5)
            engine.publish(block(5))
            told(reader, 6)


def test_what_is_no_batch_ends_nothing(addresses: tuple[str, str]) -> None:
    """Frames that are none of vLLM's are counted, and the next batch is followed."""
    with sidecar(addresses) as started, publisher(*addresses) as engine, listening(started.worker_port) as reader:
        engine.publish(block(0))
        told(reader, 1)
        for frames in ((b"one",), (b"", b"short", b"x"), (b"", b"\xff" * 8, b""), (b"", b"a", b"b", b"c")):
            engine.raw(*frames)
        engine.send((1).to_bytes(8, "big"), b"\xc1 no batch")
        told(reader, 0)
        engine.publish(block(0))
        told(reader, 1)
        assert started.metric("capstan_worker_kv_events_malformed_total") == 5
