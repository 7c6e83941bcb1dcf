"""Where samples wait to be written: bounded in number and bytes, and nobody waits for it.

    the layer ─► offer ─► outbox ─► a thread: texts, redaction, packing ─► a script on Redis
                    │ no room           │ failed: dropped, never stored raw    │ no answer
                    └───────────────────┴──────────────► dropped, counted ◄────┘

Nothing is tried twice: a sample that is lost is another one's place, and one that was written although nobody heard of
it would count twice.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from capstan_contract.evaluation import Evaluation
from capstan_contract.queue.wire import Packing
from capstan_contract.samples import Plan, Sample, put_call, write_sample
from capstan_gateway.life.outbox import Outbox
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget, Share
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.request import Request
from capstan_gateway.pipeline.sampling.redaction import redacted
from capstan_gateway.pipeline.sampling.texts import answer_of, streamed_answer, turns_of
from capstan_gateway.stores.port import KeyStore, StoreDown
from capstan_gateway.streaming.errors import StreamBroken

log = logging.getLogger(__name__)

CAPACITY: Final = 256
"""Samples that wait."""
HELD_FACTOR: Final = 4
"""How much memory one takes, by the bytes of its request and its answer: the request's document, and the texts."""
MOST_TOLD: Final = 16
"""Kinds of errors that are logged."""
PLANS_SECONDS: Final = 60.0
"""How often it is said again how models are evaluated."""


class Outcome:
    """What became of a sample: words of a metric."""

    STORED: Final = "stored"
    FULL: Final = "full"
    """Too much waited to be written."""
    MEMORY: Final = "memory"
    """The gateway had no room for it."""
    SIZE: Final = "size"
    """It is larger than samples may be."""
    INCOMPLETE: Final = "incomplete"
    """The answer did not come to its end."""
    WITHHELD: Final = "withheld"
    """A guard did not let the answer pass."""
    UNREADABLE: Final = "unreadable"
    """There is no text to judge, or none that can be read."""
    REDACTION: Final = "redaction"
    """It could not be redacted."""
    BUDGET: Final = "budget"
    """All replicas together have had the samples of this hour."""
    REDIS: Final = "redis"
    """Redis did not answer, or refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model whose answers are sampled."""

    model_id: str
    plan: Plan
    text: str
    """The plan as JSON."""

    @property
    def evaluation(self) -> Evaluation:
        """What the config says of it."""
        return self.plan.evaluation


@dataclass(slots=True, kw_only=True)
class Offered:
    """One answer, and what it answers, as they were."""

    subject: Subject
    request: Request
    """As guards have left it."""
    body: bytes
    stream: bool
    native: bool
    guards: Sequence[CompiledGuard]
    request_id: bytes
    track: str
    revision: str
    cached: bool
    at: float
    seconds: float
    share: Share


class SampleRoom:
    """Implements `lifecycle.Part`."""

    name = "samples"

    def __init__(
        self,
        store: KeyStore,
        *,
        packing: Packing,
        budget: MemoryBudget,
        rng: Random,
        count: Callable[[str, str], None],
        now: Callable[[], float],
        loop_time: Callable[[], float],
        entries: int = 1000,
        most_bytes: int = 64 * 1024,
        every_seconds: float = 0.25,
    ) -> None:
        """`count` gets the id of a model and an Outcome; `now` gives Unix seconds."""
        self.most_bytes: Final = most_bytes
        """Of a request and its answer together."""
        self.now: Final = now
        self.count: Final = count
        self._loop_time = loop_time
        self._store = store
        self._packing = packing
        self._budget = budget
        self._entries = entries
        self._told: set[str] = set()
        self._threads = Threads("samples", queued=4)
        self._subjects: dict[str, Subject] = {}
        self._outbox = Outbox[Offered](
            self.name, self._write, rng=rng, capacity=CAPACITY, batch=32, every_seconds=every_seconds, attempts=1,
            on_left=_let_go,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._outbox)

    def retain(self, subjects: Iterable[Subject]) -> None:
        """Take note of which models are sampled now."""
        self._subjects = {subject.model_id: subject for subject in subjects}

    def elapsed(self, since: float) -> float:
        """Give how many seconds ago that was, in the loop's time."""
        return max(0.0, self._loop_time() - since)

    def room_for(self, size: int) -> Share | None:
        """Give an account for something of so many bytes; None, and nothing taken, where there is no room for it."""
        share = self._budget.share()
        return share if share.grow_easily(HELD_FACTOR * size) else None

    def offer(self, offered: Offered) -> None:
        """Take it, or count that it was dropped. It does not wait."""
        if not self._outbox.put(offered):
            offered.share.release()
            self.count(offered.subject.model_id, Outcome.FULL)

    async def run(self) -> None:
        """Write what comes, and say the plans again and again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._outbox.run())
            group.create_task(self._say_plans())

    def not_ready(self) -> str | None:
        """Keep no request away."""
        return None

    async def aclose(self) -> None:
        """Write what is left, once."""
        await self._outbox.aclose()
        self._threads.close()

    async def _say_plans(self) -> None:
        while True:
            for subject in list(self._subjects.values()):
                try:
                    await self._put(subject, b"")
                except StoreDown:
                    break  # Whoever keeps the connection tells of it.
            await asyncio.sleep(PLANS_SECONDS)

    async def _write(self, batch: list[Offered]) -> None:
        down = False
        for one in batch:
            outcome = Outcome.REDIS
            if not down:
                try:
                    outcome = await self._written(one)
                except StoreDown:
                    down = True  # Each further one would wait as long as this one has.
                except Exception as error:  # noqa: BLE001 - whatever keeps it from being redacted
                    self._tell(type(error).__name__)
                    outcome = Outcome.REDACTION
            self.count(one.subject.model_id, outcome)

    def _tell(self, reason: str) -> None:
        """Say once by which kind of error samples cannot be prepared: what else it holds, somebody has said."""
        if reason not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(reason)
            log.warning("a sample could not be prepared, and is not stored", extra={"reason": reason})

    async def _written(self, one: Offered) -> str:
        data = await self._threads.run(self._prepared, one)
        if isinstance(data, str):
            return data
        return Outcome.STORED if await self._put(one.subject, data) else Outcome.BUDGET

    async def _put(self, subject: Subject, data: bytes) -> bool:
        call = put_call(subject.model_id, subject.text, data, subject.evaluation, most=self._entries)
        return bool(await self._store.run_script(call.script, call.keys, call.arguments))

    def _prepared(self, one: Offered) -> bytes | str:
        """Give a sample as it is stored, or the Outcome that it has instead."""
        try:
            prompt = turns_of(one.request)
            answer = streamed_answer(one.body, native=one.native) if one.stream else answer_of(one.body)
        except (ValueError, TypeError, StreamBroken):
            return Outcome.UNREADABLE
        if not prompt or not answer:
            return Outcome.UNREADABLE
        prompt, answer = redacted(prompt, answer, one.guards)
        sample = Sample(
            id=one.request_id.decode("ascii", "replace"), model=one.subject.model_id, track=one.track,
            revision=one.revision, prompt=prompt, answer=answer, at=one.at, seconds=one.seconds, cached=one.cached,
        )  # fmt: skip
        return write_sample(sample, self._packing)


def _let_go(items: Iterable[Offered]) -> None:
    for item in items:
        item.share.release()
