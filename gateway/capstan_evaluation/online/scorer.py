"""The scorer: takes samples from Redis, has them judged, and keeps the windows of all models.

    plans ─► for each model in turn: take ─► judge ─► scored: acknowledged, its text deleted, its scores written, in one
                                       │ the judge fails: left, and taken again after a while, a few times
                                       │ the scorer dies: another one takes it over
    scores on Redis ─► windows in memory ─► metrics, and the page that the operator asks

What is known is on Redis: a scorer that is started anew, or a second one, says the same.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from capstan_contract.evaluation import ScoreReport, TrackScores
from capstan_contract.queue.calls import Call
from capstan_contract.queue.wire import Packing, Unreadable
from capstan_contract.samples import (
    Plan,
    Sample,
    ScoreRecord,
    plans_call,
    read_plan,
    read_sample,
    read_score,
    renew_call,
    scored_call,
    scores_call,
    take_call,
    text_of,
)
from capstan_evaluation.online.judging import Judging, judge_sample, missing, record_of
from capstan_evaluation.online.windows import ModelWindows

log = logging.getLogger(__name__)

MOST_MODELS: Final = 1000
PAGE: Final = 1000
"""Scores that are read at once."""


class StoreAway(Exception):
    """Redis did not answer, or refused. Whoever keeps the connection tells of it."""


class Store(Protocol):
    """Redis, as far as the scorer needs it."""

    async def run(self, call: Call) -> Any:
        """Run a script. Raises StoreAway."""
        ...


@dataclass(frozen=True, kw_only=True)
class ScorerSettings:
    """How a scorer works."""

    name: str
    """No other one may have it."""
    calls_per_hour: int = 1000
    """Of judges, of all scorers together, by the clock hour; 0: any number."""
    concurrency: int = 4
    """Samples that are judged at once."""
    tries: int = 3
    """How often a sample is judged at most."""
    idle_seconds: float = 60.0
    """A scorer that has not said for so long that it works on a sample has lost it; also how long a sample waits whose
    judge has failed."""
    poll_seconds: float = 1.0
    """How often samples and scores are looked for."""
    plans_seconds: float = 10.0


@dataclass
class Counts:
    """What has happened since the process began."""

    judged: dict[str, int] = field(default_factory=dict)
    """Samples that were scored, by model."""
    unreadable: int = 0
    calls: int = 0
    """Of judges."""
    failed_calls: int = 0


@dataclass
class _Model:
    plan: Plan
    windows: ModelWindows = field(default_factory=ModelWindows)
    read: str = "0-0"
    """The newest score that is in the windows."""
    waiting: int = 0
    """Samples in the stream."""
    dead: int = 0
    """Samples that were given up."""


class Scorer:
    """Run it until it is cancelled. What it is judging then is another one's, or its own after a restart."""

    def __init__(
        self,
        store: Store,
        judge_of: Callable[[Plan], Judging],
        settings: ScorerSettings,
        *,
        packing: Packing,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`judge_of` gives who judges for a model; `now` gives Unix seconds."""
        self._store = store
        self._judge_of = judge_of
        self._settings = settings
        self._packing = packing
        self._now = now
        self._sleep = sleep
        self._models: dict[str, _Model] = {}
        self._working: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._known: OrderedDict[tuple[str, str], list[ScoreRecord]] = OrderedDict()
        """What a sample was judged by already whose judge has failed since, or Redis: it is not paid for twice."""
        self._plans_at: float | None = None
        self._clock = asyncio.get_running_loop().time
        self.counts = Counts()
        self.synced = False
        """Whether all scores were read once."""

    async def run(self) -> None:
        """Work for ever."""
        try:
            while True:
                try:
                    await self.step()
                except StoreAway:
                    self.synced = False
                await self._sleep(self._settings.poll_seconds)
        finally:
            for task in self._working.values():
                task.cancel()
            await asyncio.gather(*self._working.values(), return_exceptions=True)

    async def step(self) -> None:
        """Read what is new, say what is worked on, and begin with samples while there is room. Raises StoreAway."""
        if self._plans_at is None or self._clock() - self._plans_at >= self._settings.plans_seconds:
            await self._read_plans()
            self._plans_at = self._clock()
        for model_id, model in list(self._models.items()):
            await self._read_scores(model_id, model)
        self.synced = True
        await self._renew()
        for model_id, model in list(self._models.items()):
            room = self._settings.concurrency - len(self._working)
            if room <= 0:
                break
            await self._take(model_id, model, room)
        self._turn()

    def report(self) -> ScoreReport:
        """Say how all models stand."""
        return ScoreReport(models=dict(self.standing()))

    def standing(self) -> Mapping[str, tuple[TrackScores, ...]]:
        """Give the scores of each model that is evaluated."""
        now = self._now()
        return {
            model_id: model.windows.standing(model.plan.evaluation, now)
            for model_id, model in sorted(self._models.items())
        }

    def plans(self) -> Mapping[str, Plan]:
        """Give how each model is evaluated."""
        return {model_id: model.plan for model_id, model in self._models.items()}

    def waiting(self) -> Mapping[str, tuple[int, int]]:
        """Give how many samples of each model wait, and how many were given up."""
        return {model_id: (model.waiting, model.dead) for model_id, model in self._models.items()}

    # --- what Redis knows ---------------------------------------------------------------------------------------------

    async def _read_plans(self) -> None:
        words, dead, _ = await self._store.run(plans_call())
        given_up = _pairs(dead)
        found: dict[str, _Model] = {}
        for model_id, data in list(_pairs(words).items())[:MOST_MODELS]:
            plan = read_plan(data)
            if plan is not None:
                model = self._models.get(model_id) or _Model(plan)
                model.plan, model.dead = plan, int(given_up.get(model_id, b"0"))
                found[model_id] = model
        # NB: whose turn it is stays: with many models, those that Redis tells last would never be the first.
        in_turn = {model_id: found[model_id] for model_id in self._models if model_id in found}
        self._models = in_turn | found

    async def _read_scores(self, model_id: str, model: _Model) -> None:
        while True:
            rows, model.waiting = await self._store.run(scores_call(model_id, model.read, PAGE))
            for entry, data in rows:
                model.read = text_of(entry)
                record = read_score(data)
                if record is not None:
                    model.windows.add(record, model.plan.evaluation.window)
            if len(rows) < PAGE:
                return

    async def _renew(self) -> None:
        by_model: dict[str, list[str]] = {}
        for model_id, entry in self._working:
            by_model.setdefault(model_id, []).append(entry)
        for model_id, entries in by_model.items():
            await self._store.run(renew_call(model_id, self._settings.name, entries))

    # --- samples ------------------------------------------------------------------------------------------------------

    async def _take(self, model_id: str, model: _Model, room: int) -> None:
        settings = self._settings
        call = take_call(
            model_id, model.plan, settings.name, most=room, idle_ms=round(settings.idle_seconds * 1000),
            tries=settings.tries, calls_per_hour=settings.calls_per_hour,
        )  # fmt: skip
        for word, data, times in await self._store.run(call):
            entry = text_of(word)
            work = self._judged(model_id, model.plan, entry, data, last=int(times) >= settings.tries)
            task = asyncio.create_task(work, name=f"sample {entry}")
            self._working[model_id, entry] = task
            task.add_done_callback(lambda _, key=(model_id, entry): self._working.pop(key, None))  # type: ignore[misc]

    def _turn(self) -> None:
        """Let another model be the first one next time."""
        for model_id in list(self._models)[:1]:
            self._models[model_id] = self._models.pop(model_id)

    async def _judged(self, model_id: str, plan: Plan, entry: str, data: bytes, *, last: bool) -> None:
        try:
            sample = read_sample(model_id, data, self._packing)
        except Unreadable:
            # NB: it may be another's secret that is wrong: who cannot read one says so by a metric, and drops it.
            self.counts.unreadable += 1
            await self._done(model_id, plan, entry, [])
            return
        try:
            scores = await self._scores(model_id, plan, entry, sample, last=last)
        except Exception as error:  # noqa: BLE001 - it is left, and taken again: nothing else stops for it
            log.warning("a sample could not be judged", extra={"model": model_id, "reason": type(error).__name__})
            return
        if scores is not None and await self._done(model_id, plan, entry, scores):
            self.counts.judged[model_id] = self.counts.judged.get(model_id, 0) + 1

    async def _scores(
        self, model_id: str, plan: Plan, entry: str, sample: Sample, *, last: bool
    ) -> list[ScoreRecord] | None:
        """Give the scores of a sample; None where the judge has failed, and it will be asked again."""
        known = self._known.pop((model_id, entry), [])
        wanted = missing(plan, known)
        scores, failed = await judge_sample(sample, plan, wanted, self._judge_of(plan))
        self.counts.calls += len(wanted)
        self.counts.failed_calls += len(failed)
        known = [*known, *scores]
        if not failed:
            return known
        if last:
            judge = plan.evaluation.judge
            return [*known, *(record_of(sample, criterion, judge=judge, failed=True) for criterion in failed)]
        self._keep(model_id, entry, known)
        return None

    def _keep(self, model_id: str, entry: str, scores: list[ScoreRecord]) -> None:
        self._known[model_id, entry] = scores
        while len(self._known) > PAGE:
            self._known.popitem(last=False)

    async def _done(self, model_id: str, plan: Plan, entry: str, scores: list[ScoreRecord]) -> bool:
        try:
            return bool(await self._store.run(scored_call(model_id, plan, entry, scores)))
        except StoreAway:
            self._keep(model_id, entry, scores)
            return False  # It is taken again, by whoever is there.


def _pairs(words: Any) -> dict[str, bytes]:
    """Give what a reply of names and values says."""
    return {text_of(words[at]): words[at + 1] for at in range(0, len(words) - 1, 2)}
