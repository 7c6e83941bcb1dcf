"""Keeping prefixes warm: what the engine has thrown away is computed again, before the next user needs it.

    every --keep-warm-seconds   has the engine computed anything since the last look? (its own count of hits)
                     no ─► nothing can have been thrown away, and nothing is asked
                     yes ─► each prefix is asked for once more: one that is there costs a few tokens and is the last to
                            be thrown away from now on; one that is not there is computed again, and counted

Of an engine that tells no counts each prefix is asked for each time. Not so of one that nobody knows anything of, such
as llama.cpp: one whose slots hold one prompt each would compute them all each time, in place of what users had there.

It is one request at a time, of one token each, and none while the worker drains.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from capstan_worker.engine.kinds import sum_metric
from capstan_worker.errors import EngineError
from capstan_worker.warmup import Warmup

log = logging.getLogger(__name__)
_COUNTERS: Final = (
    ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"),
    ("sglang:prompt_tokens_total", "sglang:cached_tokens_total"),
)


def computed_tokens(metrics: str) -> float | None:
    """Give how many tokens of prompts an engine has computed since it began; None where its metrics do not say."""
    for asked, hit in _COUNTERS:
        total = sum_metric(metrics, asked)
        if total is not None:
            return total - (sum_metric(metrics, hit) or 0.0)
    return None


def cached_tokens(usage: Mapping[str, Any]) -> int | None:
    """Give how many tokens of a prompt the engine had, by the usage of its answer; None where that does not say."""
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    return cached if isinstance(cached, int) else None


class Keeper:
    """Keeps the prefixes of one engine warm. `metrics` are the engine's; `stopped` ends it for good."""

    def __init__(
        self,
        warmup: Warmup,
        metrics: Callable[[], Awaitable[bytes]],
        *,
        seconds: float,
        stopped: Callable[[], bool] = lambda: False,
        blindly: bool = True,
    ) -> None:
        """Make it. Unless `blindly`, nothing is asked as long as the metrics tell no counts."""
        self._warmup = warmup
        self._metrics = metrics
        self._seconds = seconds
        self._stopped = stopped
        self._blindly = blindly
        self._computed: float | None = None
        self._most: dict[str, int] = {}
        """Of each prefix the most tokens that the engine had: those of its whole blocks."""
        self.recomputed = 0
        """How often a prefix was gone."""

    async def run(self) -> None:
        """Keep them warm until cancelled or stopped; return at once where there is nothing to keep."""
        if not self._warmup.prefixes or self._seconds <= 0:
            return
        # NB: the first look finds them as warm as they were made, and learns how much of each the engine can have.
        while not self._stopped():
            await self.look()
            await asyncio.sleep(self._seconds)

    async def look(self) -> None:
        """Ask for every prefix again, if the engine may have thrown one away since the last look."""
        now = await self._count()
        if now == self._computed if now is not None else not self._blindly:
            return
        for prefix in self._warmup.prefixes:
            if self._stopped():
                return
            usage = await self._warmup.once(prefix)
            cached = None if usage is None else cached_tokens(usage)
            if cached is None:
                continue
            most = self._most[prefix.name] = max(cached, self._most.get(prefix.name, 0))
            if cached < most:
                self.recomputed += 1
                log.info("prefix was gone, and is warm again", extra={"prefix": prefix.name})
        # What these requests have computed themselves is no reason for the next ones.
        self._computed = await self._count()

    def render(self) -> str:
        """Give its metric in Prometheus' text format; nothing where there are no prefixes."""
        if not self._warmup.prefixes:
            return ""
        return (
            "# HELP capstan_worker_prefixes_recomputed_total How often a prefix was gone from the engine's cache.\n"
            "# TYPE capstan_worker_prefixes_recomputed_total counter\n"
            f"capstan_worker_prefixes_recomputed_total {self.recomputed}\n"
        )

    async def _count(self) -> float | None:
        try:
            return computed_tokens((await self._metrics()).decode(errors="replace"))
        except (EngineError, ValueError):
            return None  # Not there, or no numbers: then it is asked again, which costs little.
