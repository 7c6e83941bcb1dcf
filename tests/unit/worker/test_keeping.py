"""Keeping prefixes warm: when they are asked for again, and what is known of those that were gone."""

from typing import Any

import pytest

from capstan_worker.errors import EngineError
from capstan_worker.keeping import Keeper, cached_tokens, computed_tokens
from capstan_worker.prefixes import Prefix
from capstan_worker.warmup import Warmup

PREFIXES = (Prefix("a", "text"), Prefix("b", "text"))


class Asked(Warmup):
    """A warm-up that asks nobody, and tells what a test says."""

    def __init__(self, *prefixes: Prefix) -> None:
        super().__init__("http://127.0.0.1:1", "m", prefixes)
        self.asked: list[str] = []
        self.cached: list[int | None] = []
        self.computes = 0

    async def once(self, prefix: Prefix) -> dict[str, Any] | None:
        """Take note."""
        self.asked.append(prefix.name)
        cached = self.cached.pop(0) if self.cached else None
        return None if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}


class Engine:
    """The counters of an engine."""

    def __init__(self) -> None:
        self.asked, self.hit, self.down = 0, 0, False

    async def metrics(self) -> bytes:
        """Give them as vLLM does."""
        if self.down:
            raise EngineError("down")
        return b"vllm:prefix_cache_queries_total %d\nvllm:prefix_cache_hits_total %d\n" % (self.asked, self.hit)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ('vllm:prefix_cache_queries_total{engine="0"} 9\nvllm:prefix_cache_hits_total{engine="0"} 4\n', 5),
        ("sglang:prompt_tokens_total 9\nsglang:cached_tokens_total 2\n", 7),
        ("tgi_queue_size 1\n", None),
        ("", None),
    ],
)
def test_what_was_computed_is_what_was_no_hit(text: str, tokens: float | None) -> None:
    """By the engine's own counters; None of an engine that has none."""
    assert computed_tokens(text) == tokens


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens_details": None}, {"prompt_tokens_details": {}}])
def test_an_answer_need_not_say_what_was_there(usage: dict[str, Any]) -> None:
    """Then nothing is known of it."""
    assert cached_tokens(usage) is None


async def test_prefixes_are_asked_for_again_only_if_something_was_computed() -> None:
    """Hits throw nothing away; what was computed may have, and so may an engine that began anew or does not tell."""
    warmup, engine = Asked(*PREFIXES), Engine()
    keeper = Keeper(warmup, engine.metrics, seconds=1)
    await keeper.look()
    assert warmup.asked == ["a", "b"]
    engine.asked, engine.hit = 100, 100
    await keeper.look()
    assert len(warmup.asked) == 2
    engine.asked = 101
    await keeper.look()
    assert len(warmup.asked) == 4
    await keeper.look()
    assert len(warmup.asked) == 4
    engine.asked = engine.hit = 0
    await keeper.look()
    assert len(warmup.asked) == 6
    engine.down = True
    await keeper.look()
    assert len(warmup.asked) == 8


async def test_an_engine_whose_counts_are_no_numbers_is_asked_each_time() -> None:
    """Nothing ends because of it."""

    async def odd() -> bytes:
        return b"vllm:prefix_cache_queries_total many\n"

    warmup = Asked(*PREFIXES)
    keeper = Keeper(warmup, odd, seconds=1)
    for _ in range(2):
        await keeper.look()
    assert len(warmup.asked) == 4


async def test_an_engine_that_nobody_knows_is_not_asked_blindly() -> None:
    """Where it tells counts it is asked as any other, and where it tells none it is left alone."""
    warmup, engine = Asked(*PREFIXES), Engine()
    keeper = Keeper(warmup, engine.metrics, seconds=1, blindly=False)
    engine.down = True
    await keeper.look()
    assert warmup.asked == []
    engine.down = False
    await keeper.look()
    assert warmup.asked == ["a", "b"]


async def test_a_prefix_that_was_gone_is_counted() -> None:
    """It is one of which the engine has less than it had before; what an engine does not tell is not counted."""
    warmup, engine = Asked(*PREFIXES), Engine()
    keeper = Keeper(warmup, engine.metrics, seconds=1)
    for cached in ([32, 0], [32, 0], [0, 0], [32, None], [16, None]):
        engine.asked += 1
        warmup.cached = list(cached)
        await keeper.look()
    assert keeper.recomputed == 2
    assert "capstan_worker_prefixes_recomputed_total 2\n" in keeper.render()


async def test_a_worker_that_drains_asks_for_nothing() -> None:
    """Neither for the first prefix nor for the next."""
    warmup, engine = Asked(*PREFIXES), Engine()
    keeper = Keeper(warmup, engine.metrics, seconds=1, stopped=lambda: len(warmup.asked) >= 1)
    await keeper.look()
    await keeper.look()
    assert warmup.asked == ["a"]


async def test_without_prefixes_nothing_is_kept_or_told() -> None:
    """It ends at once, as it does when it is turned off."""
    engine = Engine()
    keeper = Keeper(Asked(), engine.metrics, seconds=1)
    await keeper.run()
    assert keeper.render() == ""
    await Keeper(Asked(*PREFIXES), engine.metrics, seconds=0).run()
