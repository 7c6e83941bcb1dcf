"""Inputs of requests for embeddings, looked for where replicas share them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from capstan_contract.caches import CacheBody
from capstan_gateway.caches.control import ANYTHING
from capstan_gateway.caches.inputs import inputs_of
from capstan_gateway.caches.memory import MemoryEntries
from capstan_gateway.caches.port import CacheKey, Entry
from capstan_gateway.pipeline.caches.embeddings import AT_ONCE, LOOK_SECONDS, PerInput


class Slow:
    """A store that answers, late, and has nothing."""

    is_down = False

    def __init__(self) -> None:
        self.now = 0.0
        self.calls = 0

    async def find(self, keys: Sequence[CacheKey]) -> Sequence[Entry | None]:
        """Take most of the time that there is."""
        self.now += LOOK_SECONDS * 0.9
        self.calls += 1
        return [None] * len(keys)


async def test_a_store_that_is_slow_is_not_asked_for_one_batch_after_the_other() -> None:
    """However long the list is, it waits little longer than for one of them: the model is asked for the rest."""
    store = Slow()
    memory = MemoryEntries(max_bytes=10**6, max_entries=10, now_ms=lambda: 0)
    room: Any = SimpleNamespace(memory=memory, shared=store, body=CacheBody())
    shared: Any = SimpleNamespace(deps=SimpleNamespace(loop_time=lambda: store.now), now_ms=lambda: 0)
    per_input = PerInput(room, shared, is_of=lambda _ask, _question: True)
    inputs = inputs_of([f"{number}" for number in range(AT_ONCE * 20)], CacheKey("p", "m", bytes(32)))
    question: Any = SimpleNamespace(control=ANYTHING)
    assert await per_input._look(question, inputs) == [None] * len(inputs.keys)
    assert store.calls == 2
