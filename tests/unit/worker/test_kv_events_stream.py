"""/kv-events on the worker port: what is said to whom, how often, and to how many."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan_contract.kv_events import (
    BEAT,
    KV_EVENTS_BEAT_SECONDS,
    MOST_NAMES_OF_LINE,
    Change,
    Head,
    read_change,
    read_head,
)
from capstan_worker.kv_events.held import MOST_READERS, HeldBlocks
from capstan_worker.kv_events.stream import FLUSH_SECONDS, STALLED_SECONDS, kv_events_route, render_held
from support.virtualtime import run_virtually


class Client:
    """One client of the path, on the worker's own loop."""

    def __init__(self, held: HeldBlocks | None, method: str = "GET") -> None:
        self.status = 0
        self.lines: list[tuple[float, bytes]] = []
        self.gone = asyncio.Event()
        self.stands_still = asyncio.Event()
        self.complete = False
        scope = {"method": method, "path": "/kv-events"}
        self.task = asyncio.create_task(kv_events_route(held)(scope, self._receive, self._send))  # type: ignore[arg-type]

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        if self.stands_still.is_set():
            await asyncio.Event().wait()
        if message["body"]:
            self.lines.append((asyncio.get_running_loop().time(), message["body"]))
        self.complete = not message.get("more_body", False)

    async def leave(self) -> None:
        """Close the connection."""
        self.gone.set()
        await self.task

    @property
    def changes(self) -> list[Change]:
        """What it was told behind the head."""
        return [read_change(line) for _, line in self.lines[1:]]


def virtually(scene: Callable[[], Any]) -> None:
    """Run a scene without waiting for its timers."""
    run_virtually(scene())


def test_an_engine_without_events_says_so() -> None:
    """404 with a sentence, which a gateway can tell from a worker that is not there; and no metrics."""

    async def scene() -> None:
        client = Client(None)
        await client.task
        assert client.status == 404
        assert b"tells nobody" in client.lines[0][1]

    virtually(scene)
    assert render_held(None) == ""


def test_only_a_get_listens() -> None:
    """Any other method is 405, and takes no reader's place."""

    async def scene() -> None:
        held = HeldBlocks()
        client = Client(held, "POST")
        await client.task
        assert client.status == 405
        assert held.readers == 0

    virtually(scene)


def test_a_reader_begins_with_all_that_is_there() -> None:
    """The head says how many blocks the lines behind it name, and then come changes."""

    async def scene() -> None:
        held = HeldBlocks(block_tokens=32)
        held.store(range(MOST_NAMES_OF_LINE + 5))
        client = Client(held)
        await asyncio.sleep(0.001)
        assert client.status == 200
        assert read_head(client.lines[0][1]) == Head(32, MOST_NAMES_OF_LINE + 5)
        assert [len(change.stored) for change in client.changes] == [MOST_NAMES_OF_LINE, 5]
        held.remove([3])
        await asyncio.sleep(2 * FLUSH_SECONDS)
        assert client.changes[2:] == [Change(removed=(3,))]
        await client.leave()
        assert held.readers == 0

    virtually(scene)


def test_changes_are_written_together() -> None:
    """However often something changes, lines are written at most so often; what came and went in between is not
    told."""

    async def scene() -> None:
        held = HeldBlocks()
        client = Client(held)
        await asyncio.sleep(0.001)
        begun = asyncio.get_running_loop().time()
        for name in range(1000):
            held.store([name, 1000 + name])
            await asyncio.sleep(0.001)
            held.remove([1000 + name])
        await asyncio.sleep(2 * FLUSH_SECONDS)
        passed = asyncio.get_running_loop().time() - begun
        times = sorted({at for at, _ in client.lines[1:]})
        assert 10 <= len(times) <= passed / FLUSH_SECONDS + 1
        assert all(later - earlier >= FLUSH_SECONDS - 1e-9 for earlier, later in pairwise(times))
        told = [name for change in client.changes for name in change.stored if name < 1000]
        assert told == list(range(1000))
        assert sum(name >= 1000 for change in client.changes for name in change.stored) <= len(times)
        await client.leave()

    virtually(scene)


def test_silence_is_broken_by_beats() -> None:
    """Where nothing changes a line that says so is sent in time."""

    async def scene() -> None:
        held = HeldBlocks()
        client = Client(held)
        await asyncio.sleep(3 * KV_EVENTS_BEAT_SECONDS + 1)
        assert [line for _, line in client.lines[1:]] == [BEAT] * len(client.lines[1:])
        assert len(client.lines) in (3, 4)
        await client.leave()

    virtually(scene)


def test_all_gateways_of_an_install_may_listen() -> None:
    """As many as the chart's autoscaling makes, and twice as many while they are replaced by others."""
    values = yaml.safe_load((Path(__file__).parents[3] / "helm/capstan/values.yaml").read_text())
    assert 2 * values["gateway"]["autoscaling"]["maxReplicas"] <= MOST_READERS


def test_those_who_listen_are_bounded() -> None:
    """One more than may listen hears 503 at once; when one has gone there is a place again."""

    async def scene() -> None:
        held = HeldBlocks()
        clients = [Client(held) for _ in range(MOST_READERS)]
        await asyncio.sleep(0.001)
        more = Client(held)
        await more.task
        assert more.status == 503
        assert f"capstan_worker_kv_event_readers {MOST_READERS}\n" in render_held(held)
        await clients.pop().leave()
        again = Client(held)
        await asyncio.sleep(0.001)
        assert again.status == 200
        for client in (*clients, again):
            await client.leave()

    virtually(scene)


def test_who_does_not_read_loses_its_place() -> None:
    """A client that takes no byte for so long that it would have given its worker up is let go of; the others go on."""

    async def scene() -> None:
        held = HeldBlocks()
        client, other = Client(held), Client(held)
        await asyncio.sleep(0.001)
        client.stands_still.set()
        held.store([1])
        await asyncio.sleep(STALLED_SECONDS + 1)
        assert client.task.done()
        assert not client.complete
        assert held.readers == 1
        assert Change(stored=(1,)) in other.changes
        await other.leave()

    virtually(scene)


@pytest.mark.parametrize("end", [lambda held: held.close(), lambda held: held.resize(64)], ids=["worker", "size"])
def test_a_stream_ends_with_what_its_head_says(end: Callable[[HeldBlocks], None]) -> None:
    """When the worker ends, or blocks turn out to have another size than the head says, the answer is complete; nothing
    of what comes then is in it."""

    async def scene() -> None:
        held = HeldBlocks()
        client = Client(held)
        await asyncio.sleep(0.001)
        end(held)
        held.store([5])
        await client.task
        assert client.complete
        assert len(client.lines) == 1
        assert held.readers == 0

    virtually(scene)
