"""Feedback, made of the process' settings: which answers were given, what is said of them, and who keeps it.

an answer ended ──► Given (memory) ──► outbox ──► Redis: which all replicas gave
POST /v1/feedback ──► known of this tenant? ──► the store waits until it is kept ──► counted by model and label
"""

import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from capstan_contract.feedback import WHOLE, Feedback, Source, label_of
from capstan_contract.tracks import Counters
from capstan_gateway.feedback.given import Answered, Given, Name
from capstan_gateway.feedback.memory import MemoryFeedback
from capstan_gateway.feedback.pace import Pace
from capstan_gateway.feedback.port import FeedbackStore, Page, Put
from capstan_gateway.feedback.redis import RedisFeedback, SharedGiven
from capstan_gateway.life.lifecycle import Lifecycle, Phase
from capstan_gateway.life.outbox import Outbox
from capstan_gateway.settings import Settings
from capstan_gateway.stores.port import KeyStore, StoreDown
from capstan_gateway.telemetry.metrics import Metrics

OUTBOX: Final = "given-answers"
MOST_WAITING: Final = 8192


class TooOften(Exception):
    """A tenant says too much at once."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too often")
        self.seconds = seconds


class FeedbackRoom:
    """All of it."""

    def __init__(
        self,
        settings: Settings,
        redis: KeyStore | None,
        *,
        metrics: Metrics,
        rng: Random,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._metrics: Final = metrics
        self._now_ms: Final = now_ms
        self._pace: Final = Pace(clock=clock)
        self._shared: SharedGiven | None = None
        self._outbox: Outbox[tuple[Name, Answered]] | None = None
        most, seconds = settings.feedback_entries, settings.feedback_seconds
        self._store: FeedbackStore
        if redis is None:
            self._store = MemoryFeedback(most=most, seconds=seconds, now_ms=now_ms)
        else:
            self._store = RedisFeedback(redis, most=most, seconds=seconds, now_ms=now_ms)
        if redis is not None and settings.feedback_shared_answers:
            self._shared = SharedGiven(
                redis, most=settings.feedback_shared_answers, seconds=settings.feedback_answer_seconds
            )
            self._outbox = Outbox(
                OUTBOX, self._shared.write, rng=rng, capacity=MOST_WAITING, on_dropped=self._count_dropped,
                expected=(StoreDown,),
            )  # fmt: skip
        self.given: Final = Given(
            most=settings.feedback_answers, seconds=settings.feedback_answer_seconds, now_ms=now_ms,
            tell=None if self._outbox is None else self._outbox.put,
        )  # fmt: skip

    @property
    def source(self) -> str:
        """Where what was said is."""
        return self._store.source

    def live_in(self, lifecycle: Lifecycle) -> None:
        """Let it live with the process."""
        if self._outbox is not None:
            lifecycle.add(self._outbox, Phase.OUTBOX)

    async def say(self, tenant: str, id: str, millis: int, comment: str, source: Source) -> tuple[Feedback, Put] | None:
        """Keep what somebody says of an answer; None where this tenant was given no such answer.

        Raises TooOften, and StoreDown where that cannot be known, or kept.
        """
        wait = self._pace.wait(tenant)
        if wait:
            raise TooOften(wait)
        name = Name(tenant, id)
        known = await self._find(name)
        if known is None:
            return None
        said = Feedback(
            at=self._now_ms(), id=id, requestId=known.request_id, model=known.model,
            asked=known.asked if known.asked != known.model else "", tenant=tenant, score=millis / WHOLE,
            label=label_of(millis), comment=comment, source=source, arms=known.names,
        )  # fmt: skip
        outcome = await self._store.put(name, said)
        if outcome is not Put.SAME:
            self._metrics.feedback.at(known.model, said.label.value, outcome.value).value += 1
        return said, outcome

    async def page(self, after: int, limit: int) -> Page:
        """Give some of what was said. Raises StoreDown."""
        return await self._store.page(after, limit)

    async def arms(self, key: str, epoch: str) -> Mapping[str, Counters]:
        """Give what was said of the answers of each arm; of none where that cannot be known now."""
        try:
            return await self._store.arms(key, epoch)
        except StoreDown:
            return {}

    async def _find(self, name: Name) -> Answered | None:
        known = self.given.find(name)
        if known is None and self._shared is not None:
            known = await self._shared.find(name)
        return known if known is not None and self.given.is_fresh(known) else None

    def _count_dropped(self, items: int) -> None:
        self._metrics.outbox_dropped.at(OUTBOX).value += items
