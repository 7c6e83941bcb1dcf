"""What replicas share of caches, made of the settings: one connection to Redis for all policies, apart from others'."""

from collections.abc import Callable
from random import Random
from typing import Final

from capstan_contract.caches import CacheBody
from capstan_gateway.caches.codec import Codec
from capstan_gateway.caches.port import SharedEntries
from capstan_gateway.caches.semantic.ledger import SharedLedger
from capstan_gateway.life.lifecycle import Closing, Lifecycle, Phase
from capstan_gateway.redis_address import read_address
from capstan_gateway.settings import Settings
from capstan_gateway.telemetry.metrics import Metrics


class SharedCaches:
    """Entries of all policies; nothing is connected before the first look."""

    def __init__(self, settings: Settings, *, metrics: Metrics, rng: Random, now_ms: Callable[[], int]) -> None:
        from capstan_gateway.caches.semantic.shared_ledger import RedisLedger
        from capstan_gateway.caches.shared import RedisEntries
        from capstan_gateway.stores.scripted import make_links

        self._links = make_links(
            read_address(settings.redis_url or ""), seconds=settings.redis_limit_seconds, rng=rng,
            password=settings.redis_password, sentinel_password=settings.redis_sentinel_password,
            ca_file=settings.redis_ca_file,
        )  # fmt: skip
        self._entries: Final = RedisEntries
        self._ledger: Final = RedisLedger
        self._now_ms = now_ms
        self._calls = metrics.redis_calls

    def of(self, policy: str, body: CacheBody, secret: bytes) -> SharedEntries | None:
        """Give those of a policy."""
        if body.redis is None:
            return None
        codec = Codec(compression=body.redis.compression, secret=secret)
        return self._entries(
            self._links, policy=policy, codec=codec, max_entry_bytes=body.redis.maxEntryBytes, now_ms=self._now_ms,
            count=self._count,
        )  # fmt: skip

    def ledger(self, digest: str) -> SharedLedger:
        """Give what replicas share of hits by meaning, by the digest of what it is about."""
        return self._ledger(self._links, digest, count=self._count)

    def live_in(self, lifecycle: Lifecycle) -> None:
        """Let the connection live with the process."""
        lifecycle.add(Closing("caches-redis", self._links.aclose), Phase.STORE)

    def _count(self, outcome: str) -> None:
        self._calls.at("cache", outcome).value += 1
