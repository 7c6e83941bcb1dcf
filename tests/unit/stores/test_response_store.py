"""What waits to be written, in front of a store that a test holds in its hands."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from capstan_gateway.memory import MemoryBudget
from capstan_gateway.stores import responses as module
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.responses import Bounds, ResponseStore, Stored
from capstan_gateway.stores.scripts import DELETE, PUT
from support.wait import eventually

RNG = Random(1)  # noqa: S311 - jitter
BOUNDS = Bounds(seconds=60, response_bytes=10_000, responses=5, tenant_bytes=50_000)
STORED = Stored(b'{"output":[]}', b"[]")


class Held:
    """A store that answers when a test lets it, or fails."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []
        self.there: dict[str, Stored] = {}
        self.reads = 0
        self.down = False
        self.on_third_read: tuple[str, Stored] | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        """Give what is there."""
        self.reads += 1
        if self.reads == 3 and self.on_third_read is not None:
            self.there[self.on_third_read[0]] = self.on_third_read[1]
        if self.down:
            raise StoreDown("down")
        stored = self.there.get(key)
        return [None, None] if stored is None else [stored.response, stored.items]

    async def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> int:
        """Note what was asked, and do it."""
        await self.gate.wait()
        if self.down:
            raise StoreDown("down")
        key = keys[0].rpartition(":")[2]
        self.ran.append(({PUT: "put", DELETE: "delete"}[script], key))
        if script is PUT:
            response, items = arguments[2], arguments[3]
            assert isinstance(response, bytes)
            assert isinstance(items, bytes)
            self.there[keys[0]] = Stored(response, items)
            return 1
        return int(self.there.pop(keys[0], None) is not None)


class Rig:
    """A store of responses, and what it counts."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.held = Held()
        self.budget = MemoryBudget(limit)
        self.counts: list[str] = []
        self.dropped = 0
        self.store = ResponseStore(
            self.held, BOUNDS, budget=self.budget, rng=RNG, count=self.counts.append, on_dropped=self._drop
        )

    def _drop(self, count: int) -> None:
        self.dropped += count


async def test_what_was_kept_is_found_before_it_is_written() -> None:
    """A response is found here at once, whatever the store is doing."""
    rig = Rig()
    rig.held.down = True
    assert rig.store.keep("t", "r1", STORED)
    assert await rig.store.load("t", "r1") == STORED
    assert rig.held.reads == 0
    with pytest.raises(StoreDown):
        await rig.store.load("u", "r1")  # Another tenant's is looked for, and not found here.


async def test_it_is_written_at_once_and_let_go_of() -> None:
    """The job writes what was kept, and then nothing of it is held here."""
    rig = Rig()
    work = asyncio.create_task(rig.store.run())
    assert rig.store.keep("t", "r1", STORED)
    assert rig.budget.held == STORED.size
    await eventually(lambda: rig.budget.held == 0, what="the end of writing")
    assert rig.held.ran == [("put", "r1")]
    assert await rig.store.load("t", "r1") == STORED
    assert (rig.held.reads, rig.counts, rig.dropped) == (1, ["kept"], 0)
    work.cancel()


async def test_what_is_too_large_is_not_kept() -> None:
    """A response above the bound is counted, and says so."""
    rig = Rig()
    large = Stored(b"x" * 10_000, b"[]")
    assert not rig.store.keep("t", "r1", large)
    assert (rig.counts, rig.budget.held) == (["too_large"], 0)
    assert await rig.store.load("t", "r1") is None


async def test_no_more_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither number nor bytes of what waits pass their bounds: the rest is dropped, and counted."""
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    rig = Rig()
    assert [rig.store.keep("t", f"r{number}", STORED) for number in range(5)] == [True] * 3 + [False] * 2
    assert (rig.dropped, rig.budget.held) == (2, 3 * STORED.size)
    monkeypatch.setattr(module, "MOST_WAITING_BYTES", 2 * STORED.size)
    other = Rig()
    assert [other.store.keep("t", f"r{number}", STORED) for number in range(3)] == [True, True, False]
    assert (other.dropped, other.budget.held) == (1, 2 * STORED.size)


async def test_without_memory_nothing_is_kept() -> None:
    """What waits is taken from the process' budget."""
    rig = Rig(limit=100)
    assert not rig.store.keep("t", "r1", STORED)
    assert (rig.dropped, rig.budget.held) == (1, 0)


async def test_a_response_that_waits_can_be_deleted() -> None:
    """Deleted before it was written, it is never written, and is not found any more."""
    rig = Rig()
    rig.store.keep("t", "r1", STORED)
    assert await rig.store.delete("t", "r1") is True
    assert await rig.store.delete("t", "r1") is False
    assert await rig.store.load("t", "r1") is None
    await rig.store.aclose()
    assert rig.held.ran == [("delete", "r1")]
    assert rig.budget.held == 0


async def test_a_response_that_is_just_written_can_be_deleted() -> None:
    """Deleted while it is written, it is gone when that is done."""
    rig = Rig()
    rig.held.gate.clear()
    work = asyncio.create_task(rig.store.run())
    rig.store.keep("t", "r1", STORED)
    await asyncio.sleep(0.01)
    assert await rig.store.delete("t", "r1") is True
    rig.held.gate.set()
    await eventually(lambda: rig.budget.held == 0, what="the end of writing")
    assert rig.held.ran == [("put", "r1"), ("delete", "r1")]
    assert rig.held.there == {}
    work.cancel()


async def test_another_replica_may_just_be_writing() -> None:
    """Who looks with patience finds what comes meanwhile; who has none does not wait."""
    rig = Rig()
    key = "capstan:responses:{t-t}:r1"
    rig.held.on_third_read = (key, STORED)
    assert await rig.store.load("t", "r1", patience=(0.0, 0.0)) == STORED
    assert (await rig.store.load("t", "r2", patience=(0.0, 0.0)), rig.held.reads) == (None, 6)
    assert (await rig.store.load("t", "r2"), rig.held.reads) == (None, 7)


async def test_what_the_store_never_takes_is_dropped_and_let_go_of() -> None:
    """At the end what cannot be written is counted, and its memory given back."""
    rig = Rig()
    rig.held.down = True
    rig.store.keep("t", "r1", STORED)
    rig.store.keep("t", "r2", STORED)
    await rig.store.aclose()
    assert (rig.dropped, rig.budget.held, rig.held.ran) == (2, 0, [])
    rig.held.down = False
    assert await rig.store.load("t", "r1") is None


async def test_the_largest_that_is_kept() -> None:
    """The bound itself is kept, one byte more is not."""
    rig = Rig()
    room = BOUNDS.response_bytes - Stored(b"", b"").size
    assert rig.store.keep("t", "r1", Stored(b"x" * room, b""))
    assert not rig.store.keep("t", "r2", Stored(b"x" * room, b"y"))


async def test_half_a_response_is_none() -> None:
    """What lacks one of its fields is not there."""
    rig = Rig()

    async def half(key: str, fields: Sequence[str]) -> list[bytes | None]:
        return [b"{}", None]

    rig.held.read = half  # type: ignore[method-assign]
    assert await rig.store.load("t", "r1") is None
