"""What replicas share of caches, made of the settings: connections to Redis for all policies, apart from others'.

One is for looks, leases and what is small, and one for what is large.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from capstan_contract.caches import CacheBody
from capstan_contract.redis_address import read_address
from capstan_gateway.caches.codec import Codec
from capstan_gateway.caches.port import SharedEntries
from capstan_gateway.caches.purges import Covers
from capstan_gateway.caches.sealing import Sealing
from capstan_gateway.caches.semantic.feeding import QuestionFeeds
from capstan_gateway.caches.semantic.index import Neighbours
from capstan_gateway.caches.semantic.ledger import SharedLedger
from capstan_gateway.caches.semantic.questions import QuestionCodec, SharedQuestions
from capstan_gateway.life.lifecycle import Closing, Lifecycle, Phase
from capstan_gateway.life.threads import Threads
from capstan_gateway.settings import Settings
from capstan_gateway.telemetry.metrics import Metrics


class SharedCaches:
    """Entries of all policies; nothing is connected before the first look."""

    def __init__(self, settings: Settings, *, metrics: Metrics, rng: Random, now_ms: Callable[[], int]) -> None:
        # The parser is loaded only where there is a Redis.
        from capstan_gateway.caches.purging import Purges
        from capstan_gateway.caches.semantic.shared_ledger import RedisLedger
        from capstan_gateway.caches.semantic.shared_questions import RedisQuestions
        from capstan_gateway.caches.shared import RedisEntries
        from capstan_gateway.caches.shared_ids import RedisIds
        from capstan_gateway.stores.scripted import make_links

        make = partial(
            make_links, read_address(settings.redis_url or ""), rng=rng, password=settings.redis_password,
            sentinel_password=settings.redis_sentinel_password, ca_file=settings.redis_ca_file,
        )  # fmt: skip
        self._links = make(seconds=settings.redis_limit_seconds)
        self._large = make(seconds=settings.redis_seconds)
        self._entries: Final = RedisEntries
        self._ledger: Final = RedisLedger
        self._questions: Final = RedisQuestions
        self._now_ms = now_ms
        self._metrics = metrics
        self._threads = Threads("cache-entries", queued=32)
        self._reading = Threads("cache-questions", queued=8)
        self._feeds: Final = QuestionFeeds()
        self.purges: Final = Purges(self._links, now_ms=now_ms)
        self.ids: Final = RedisIds(self._links, on_dropped=self._count_lost_ids)

    def of(self, policy: str, body: CacheBody, sealing: Sealing, purged: Covers) -> SharedEntries | None:
        """Give those of a policy."""
        redis = body.redis
        if redis is None:
            return None
        self.purges.want()

        def codec() -> Codec | None:
            return Codec(compression=redis.compression, secret=sealing.secret) if sealing.may_leave else None

        return self._entries(
            self._links, policy=policy, codec=codec, max_entry_bytes=redis.maxEntryBytes,
            ttl_ms=body.ttlSeconds * 1000, now_ms=self._now_ms, large=self._large, purged=purged,
            learn=self.purges.learn, threads=self._threads, count=partial(self._count, policy.partition("/")[2]),
        )  # fmt: skip

    def questions(
        self,
        policy: str,
        body: CacheBody,
        sealing: Sealing,
        purged: Covers,
        index: Neighbours,
        warm: Callable[[], object],
    ) -> SharedQuestions | None:
        """Give the questions that replicas share of a policy, which come into this index; None: it shares none."""
        if body.redis is None or body.semantic is None:
            return None

        def codec() -> QuestionCodec | None:
            return QuestionCodec(sealing.secret) if sealing.may_leave else None

        made = self._questions(
            self._links, policy=policy, index=index, codec=codec, most=body.semantic.maxEntries,
            ttl_ms=body.ttlSeconds * 1000, now_ms=self._now_ms, threads=self._reading, warm=warm, large=self._large,
            purged=purged, learn=self.purges.learn, count=partial(self._count, policy.partition("/")[2]),
            closed=self._feeds.drop,
        )  # fmt: skip
        self._feeds.add(made)
        return made

    def ledger(self, digest: str) -> SharedLedger:
        """Give what replicas share of hits by meaning, by the digest of what it is about."""
        return self._ledger(self._links, digest, count=partial(self._count, ""))

    def live_in(self, lifecycle: Lifecycle) -> None:
        """Let the connections live with the process."""
        lifecycle.add(Closing("caches-redis", self._aclose), Phase.STORE)
        lifecycle.add(self.purges, Phase.OUTBOX)
        lifecycle.add(self._feeds, Phase.OUTBOX)
        lifecycle.add(self.ids, Phase.OUTBOX)

    async def _aclose(self) -> None:
        await self._links.aclose()
        await self._large.aclose()
        self._threads.close()
        self._reading.close()

    def _count_lost_ids(self, number: int) -> None:
        self._metrics.outbox_dropped.at(self.ids.name).value += number

    def _count(self, policy: str, outcome: str) -> None:
        if outcome == "unreadable":
            self._metrics.cache_unreadable.at(policy).value += 1
        else:
            self._metrics.redis_calls.at("cache", outcome).value += 1
