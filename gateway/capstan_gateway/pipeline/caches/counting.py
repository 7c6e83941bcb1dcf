"""What is counted of one CachePolicy, and what it says of itself."""

from typing import Final

from capstan_contract.caches import CacheCounts
from capstan_contract.limits import Mode
from capstan_gateway.caches.port import Found, Tier
from capstan_gateway.telemetry.cells import Number
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.tokens.usage import Usage

MISS: Final = "miss"
BYPASS: Final = "bypass"
STALE: Final = "stale-refused"
JOINED: Final = "joined"
PARTIAL: Final = "partial"
_COUNTED: Final = (
    "memoryHits", "redisHits", "semanticHits", "misses", "bypassed", "stored", "savedTokens", "savedNanoDollars",
)  # fmt: skip


class PolicyCells:
    """The cells of one policy, looked up once."""

    __slots__ = ("_hits", "bypassed", "joined", "misses", "partial", "saved_dollars", "saved_tokens", "stale", "stored")

    def __init__(self, metrics: Metrics, policy: str, mode: str) -> None:
        looks = metrics.cache_requests
        self._hits: Final = {tier: looks.at(policy, mode, f"hit-{tier.value}") for tier in Tier}
        self.misses: Number = looks.at(policy, mode, MISS)
        self.joined: Number = looks.at(policy, mode, JOINED)
        """Those who waited for an answer that somebody else had asked for."""
        self.partial: Number = looks.at(policy, mode, PARTIAL)
        """Lists of which some inputs were there, and others were asked for."""
        self.bypassed: Number = looks.at(policy, mode, BYPASS)
        self.stale: Number = looks.at(policy, mode, STALE)
        self.stored: Number = metrics.cache_stored.at(policy)
        self.saved_tokens: Number = metrics.cache_saved_tokens.at(policy, mode)
        self.saved_dollars: Number = metrics.cache_saved_dollars.at(policy, mode)

    def hit(self, found: Found) -> None:
        """Count an answer that was there, and what it saved."""
        self._hits[found.tier].value += 1
        self.saved(found.entry.usage, found.entry.nano_dollars)

    def saved(self, usage: Usage | None, nano_dollars: int | None) -> None:
        """Count what nobody had to compute."""
        if usage is not None:
            self.saved_tokens.value += usage.prompt_tokens + usage.completion_tokens
        self.saved_dollars.value += nano_dollars or 0

    def counts(
        self, *, mode: Mode, entries: int = 0, size: int = 0, redis_down: bool = False,
        before: CacheCounts | None = None,
    ) -> CacheCounts:  # fmt: skip
        """Give all of it; without what was counted `before`, where that is known."""
        counts = CacheCounts(
            mode=mode,
            memoryHits=int(self._hits[Tier.MEMORY].value + self.joined.value),
            redisHits=int(self._hits[Tier.REDIS].value),
            semanticHits=int(self._hits[Tier.SEMANTIC].value),
            misses=int(self.misses.value + self.partial.value + self.stale.value),
            bypassed=int(self.bypassed.value), stored=int(self.stored.value),
            savedTokens=int(self.saved_tokens.value), savedNanoDollars=int(self.saved_dollars.value),
            entries=entries, bytes=size, redisDown=redis_down,
        )  # fmt: skip
        if before is None:
            return counts
        return counts.model_copy(update={name: getattr(counts, name) - getattr(before, name) for name in _COUNTED})
