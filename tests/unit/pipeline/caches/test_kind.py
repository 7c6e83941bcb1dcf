"""What all cache policies do together: purges."""

import asyncio
from collections.abc import Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from capstan_contract.caches import CacheBody
from capstan_gateway.caches.key import model_of
from capstan_gateway.caches.memory import SLICE, MemoryEntries
from capstan_gateway.caches.port import CacheKey, Entry, Form
from capstan_gateway.caches.purges import Purge, What
from capstan_gateway.errors import Overloaded
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.caches.kind import Caches
from capstan_gateway.pipeline.caches.needs import Shared
from capstan_gateway.telemetry.metrics import Metrics

KEYS = [CacheKey(f"{number:032x}", "b" * 16, bytes(32)) for number in range(3)]


class Dropped:
    """What is found by its meaning."""

    def __init__(self, *there: CacheKey) -> None:
        self.there = there
        self.dropped: list[CacheKey] = []

    def drop(self, key: CacheKey) -> bool:
        """Note it."""
        self.dropped.append(key)
        return True

    def keys(self) -> Sequence[CacheKey]:
        """Give them; where there are none they may not be looked through."""
        assert self.there
        return self.there


async def test_the_purge_of_one_entry_looks_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients report answers as wrong: among 100,000 questions each report took 50 ms in which nobody was served."""
    deps: Any = SimpleNamespace(metrics=Metrics(), budget=MemoryBudget(10**6))
    caches = Caches(Shared(deps=deps, now_ms=lambda: 10))
    memory = MemoryEntries(max_bytes=10**5, max_entries=10, now_ms=lambda: 10)
    for key in KEYS:
        memory.put(key, Entry(Form.ANSWER, b"{}", b"application/json", 5, 100))
    alike = Dropped()
    room: Any = SimpleNamespace(memory=memory, alike=alike, shared=None, secret=b"")
    caches._rooms["CachePolicy/t/c", CacheBody()] = room
    monkeypatch.setattr(MemoryEntries, "sweep", lambda *_: pytest.fail("all entries were looked at"))
    await caches.purge(Purge(What.ENTRY, KEYS[1].text))
    assert [memory.get(key) is not None for key in KEYS] == [True, False, True]
    assert alike.dropped == [KEYS[1]]


class Background:
    """Does what goes on beside requests when a test lets it, or has no room for it."""

    def __init__(self, *, room: bool) -> None:
        self.room = room
        self.works: list[Coroutine[Any, Any, None]] = []

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Take it."""
        if not self.room:
            work.close()
            raise Overloaded
        self.works.append(work)


@pytest.mark.parametrize("room", [True, False], ids=["beside", "at once"])
async def test_a_purge_of_many_is_in_force_at_once_and_takes_turns_to_forget(room: bool) -> None:
    """Nothing of it is given from the first moment; entries and questions are forgotten in slices, between which others
    are served; what is of another model, or was made later, stays."""
    background = Background(room=room)
    deps: Any = SimpleNamespace(metrics=Metrics(), budget=MemoryBudget(10**9), background=background)
    now = [10]
    caches = Caches(Shared(deps=deps, now_ms=lambda: now[0]))
    purged = caches.purges.covers(lambda: b"")
    memory = MemoryEntries(max_bytes=10**8, max_entries=10**5, now_ms=lambda: now[0], purged=purged)
    keys = [CacheKey(f"{at % 7:032x}", model_of("ab"[at % 2]), at.to_bytes(32, "big")) for at in range(4 * SLICE)]
    for key in keys:
        memory.put(key, Entry(Form.ANSWER, b"{}", b"application/json", 5, 10**6))
    alike = Dropped(*keys)
    kept: Any = SimpleNamespace(memory=memory, alike=alike, shared=None, secret=b"")
    caches._rooms["CachePolicy/t/c", CacheBody()] = kept
    await caches.purge(Purge(What.MODEL, "a"))
    assert all((memory.get(key) is None) == (key.model == model_of("a")) for key in keys[:20])
    now[0] = 20
    late = keys[0]._replace(digest=b"l" * 32)
    memory.put(late, Entry(Form.ANSWER, b"{}", b"application/json", 15, 10**6))
    if room:
        assert len(memory) > 3 * SLICE
        assert alike.dropped == []
        turns = 0
        forgetting = asyncio.ensure_future(background.works[0])
        while not forgetting.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 6
    assert len(memory) == 2 * SLICE + 1
    assert memory.get(late) is not None
    assert alike.dropped == keys[::2]
