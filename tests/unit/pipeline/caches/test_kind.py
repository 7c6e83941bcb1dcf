"""What all cache policies do together: purges."""

from types import SimpleNamespace
from typing import Any

import pytest

from capstan_contract.caches import CacheBody
from capstan_gateway.caches.memory import MemoryEntries
from capstan_gateway.caches.port import CacheKey, Entry, Form
from capstan_gateway.caches.purges import Purge, What
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.caches.kind import Caches
from capstan_gateway.pipeline.caches.needs import Shared
from capstan_gateway.telemetry.metrics import Metrics

KEYS = [CacheKey(f"{number:032x}", "b" * 16, bytes(32)) for number in range(3)]


class Dropped:
    """What is found by its meaning, which may not be looked through."""

    def __init__(self) -> None:
        self.keys: list[CacheKey] = []

    def drop(self, key: CacheKey) -> bool:
        """Note it."""
        self.keys.append(key)
        return True


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
    monkeypatch.setattr(MemoryEntries, "drop_where", lambda *_: pytest.fail("all entries were looked at"))
    await caches.purge(Purge(What.ENTRY, KEYS[1].text))
    assert [memory.get(key) is not None for key in KEYS] == [True, False, True]
    assert alike.keys == [KEYS[1]]
