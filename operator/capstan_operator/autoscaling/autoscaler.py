"""How many replicas each scaled model should have: decided after each round of questions, in the process that leads.

It writes nothing: a model of which another number was decided, or of which the status has news, is woken, and its
reconcile writes the number under the field manager of its own, and the status. From that status another process goes
on, so that nothing of it has to survive in memory.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

from capstan_contract.names import API_VERSION
from capstan_operator.api.kinds import LLM_MODELS, Model
from capstan_operator.api.scaling import Scaling, ScalingStrategy
from capstan_operator.autoscaling.standing import NO_METRICS_API, Standing
from capstan_operator.desired.autoscaler import NOTHING_SAID, HpaUse, ScalerSays
from capstan_operator.desired.replicas import scaling_in_force
from capstan_operator.kube.events import Subject
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.scaling.decision import MISSED_SECONDS, Decision, Limit, Now, Reason, Scaler
from capstan_operator.scaling.demand import Demand
from capstan_operator.status.scaling import Scaled, moment_in

log = logging.getLogger(__name__)

NEWS_SECONDS: Final = 10.0
"""For how long a limit has to be another one before the status says so: demand wavers."""
IDLE_TOLD_FROM: Final = 0.5
"""From what share of `idleSeconds` without any request on the status of a model says so that may go to zero: each pause
told of one that may not would be a write for nothing, and another process waits half as long again at most."""

Record = Callable[[Subject, Literal["Normal", "Warning"], str, str], None]


@dataclass
class _Entry:
    """A scaled model."""

    subject: Subject
    scaling: Scaling
    current: int
    ready: int
    scaler: Scaler
    may_have_hpa: bool
    """Whether the operator may list HPAs there."""
    told: Scaled
    """What its status says, or will when it is written next."""
    decision: Decision | None = None
    known_at: float | None = None
    """When what is asked of it was known last, or when it was first looked at."""
    use: HpaUse = HpaUse.HOLD
    differs_since: float | None = None
    """Since when the limit is another one than is told."""
    announced: int | None = None
    """The number that an Event is to tell of, as soon as it is written."""


class Autoscaler:
    """Knows the scaled models by what their reconciles `tell`; `step` decides for all of them."""

    def __init__(
        self,
        demand_of: Callable[[ObjectKey], Demand | None],
        *,
        wake: Callable[[ObjectKey], None],
        record: Record,
        standing: Callable[[], Standing] = lambda: NO_METRICS_API,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        self._demand_of = demand_of
        self._wake = wake
        self._record = record
        self._standing = standing
        self._now = now
        self._clock = clock
        self._entries: dict[ObjectKey, _Entry] = {}

    def __len__(self) -> int:
        """How many models are scaled here."""
        return len(self._entries)

    @property
    def wants_hpas(self) -> bool:
        """Whether any model is to be scaled by an HPA."""
        return any(entry.scaling.follows is ScalingStrategy.HPA for entry in self._entries.values())

    def tell(self, model: Model, deployment: Manifest | None, *, may_have_hpa: bool = True) -> None:
        """Take up a model as it is, after its children were written; one that nobody scales here is forgotten."""
        scaling = scaling_in_force(model.spec, deployment) if model.spec and model.spec.has_engine else None
        if scaling is None or scaling.is_external or deployment is None:
            self.forget(model.key)
            return
        current = int(deployment["spec"].get("replicas", 1))
        ready = int((deployment.get("status") or {}).get("readyReplicas") or 0)
        entry = self._entries.get(model.key)
        if entry is None or entry.subject.uid != model.uid:
            entry = self._entries[model.key] = self._begin(model, scaling, current, ready)
        entry.may_have_hpa = may_have_hpa
        entry.scaling, entry.current, entry.ready = scaling, current, ready
        if entry.announced == current:
            self._announce(entry)

    def forget(self, key: ObjectKey) -> None:
        """A model has gone, or is scaled no more."""
        self._entries.pop(key, None)

    def keep_only(self, keys: Iterable[ObjectKey]) -> None:
        """Forget every other model: a watch may have missed that one went."""
        kept = set(keys)
        self._entries = {key: entry for key, entry in self._entries.items() if key in kept}

    def says(self, key: ObjectKey) -> ScalerSays:
        """Give how many replicas a model should have, and whether it has an HPA."""
        entry = self._entries.get(key)
        if entry is None or entry.decision is None:
            return NOTHING_SAID
        return ScalerSays(_written_here(entry), entry.use, entry.decision.least)

    def scaled(self, key: ObjectKey) -> Scaled | None:
        """Give what the status is to say."""
        entry = self._entries.get(key)
        return None if entry is None else entry.told

    def step(self) -> None:
        """Decide for every model by what is known now, and wake those of which there is news."""
        for key, entry in self._entries.items():
            if self._decide(key, entry):
                self._wake(key)

    def _begin(self, model: Model, scaling: Scaling, current: int, ready: int) -> _Entry:
        before = model.status.get("scaling") or {}
        idle_since = moment_in(model.status, "idleSince")
        told = Scaled(
            known=None,
            desired=before.get("desired"),
            reason=str(before.get("reason") or ""),
            changed_at=moment_in(model.status, "lastScaleTime"),
            idle_since=idle_since,
        )
        subject = Subject(API_VERSION, LLM_MODELS.kind, model.key.namespace, model.key.name, model.uid)
        return _Entry(subject, scaling, current, ready, Scaler(idle_since), True, told)

    def _decide(self, key: ObjectKey, entry: _Entry) -> bool:
        """Decide for one model; say whether there is news of it."""
        now, clock, demand = self._now(), self._clock(), self._demand_of(key)
        before, known, was = entry.decision, entry.told.known, (entry.use, _least(entry))
        found = entry.scaler.decide(entry.scaling, demand, Now(now, clock, entry.current, entry.ready))
        entry.decision = found
        entry.use, without = self._use(entry)
        entry.known_at = clock if demand is not None or entry.known_at is None else entry.known_at
        if demand is not None or clock - entry.known_at > MISSED_SECONDS:
            known = demand is not None
        told = Scaled(
            known=known,
            desired=_wanted(entry),
            reason=entry.told.reason,
            changed_at=entry.told.changed_at,
            limited_by=self._settled_limit(entry, clock, found),
            idle_since=_told_idle(entry.scaling, found, now),
            without_hpa=without,
            by_hpa=entry.use is HpaUse.APPLY,
        )
        written = _written_here(entry)
        if written not in (None, entry.current) and (before is None or before.desired != found.desired):
            told = replace(told, reason=str(found.reason), changed_at=now)
            entry.announced = written
            log.info(
                "decided the number of replicas",
                extra={"model": str(key), "reason": str(found.reason), "replicas": written},
            )
        is_news, entry.told = told != entry.told or was != (entry.use, _least(entry)), told
        return is_news

    def _use(self, entry: _Entry) -> tuple[HpaUse, str]:
        """Say whether a model has an HPA, and why not where it should have one."""
        if entry.scaling.follows is not ScalingStrategy.HPA:
            return HpaUse.NONE, ""
        if not entry.may_have_hpa:
            return HpaUse.NONE, "the operator may not list HorizontalPodAutoscalers"
        standing = self._standing()
        if standing.usable is None:
            return HpaUse.HOLD, entry.told.without_hpa
        return (HpaUse.APPLY, "") if standing.usable else (HpaUse.NONE, standing.problem)

    def _settled_limit(self, entry: _Entry, clock: float, found: Decision) -> Limit | None:
        """Give the limit to tell of: another one than before only when it has lasted for a while."""
        if found.limited_by is entry.told.limited_by or found.reason is Reason.UNKNOWN:
            entry.differs_since = None
            return entry.told.limited_by
        entry.differs_since = clock if entry.differs_since is None else entry.differs_since
        return found.limited_by if clock - entry.differs_since >= NEWS_SECONDS else entry.told.limited_by

    def _announce(self, entry: _Entry) -> None:
        entry.announced = None
        what = "replica" if entry.current == 1 else "replicas"
        why = _WHY.get(entry.told.reason, "")
        self._record(entry.subject, "Normal", "Scaled", f"{entry.current} {what}{why}")


def _least(entry: _Entry) -> int:
    return 1 if entry.decision is None else entry.decision.least


def _written_here(entry: _Entry) -> int | None:
    """Give the number that is ours to write; None where it is the HPA's.

    To zero and from zero it is ours, whoever says it above. While it is not known what is asked of the model, a person
    may set it, within the bounds.
    """
    assert entry.decision is not None  # noqa: S101  # it was decided
    desired = entry.decision.desired
    if entry.decision.reason is Reason.UNKNOWN:
        # NB: whoever writes it keeps to `max` as well; only the least may be another one at each moment.
        return entry.decision.least if entry.current < entry.decision.least else None
    if entry.use is HpaUse.NONE:
        return desired
    if entry.current == 0:
        return min(desired, max(1, entry.decision.least))
    return 0 if desired == 0 else None


def _wanted(entry: _Entry) -> int:
    """Give what there should be: of an HPA's what it has said."""
    written = _written_here(entry)
    return entry.current if written is None else written


_WHY: Final[Mapping[str, str]] = {
    Reason.MORE: ": more is asked for",
    Reason.FEWER: ": fewer have been enough",
    Reason.WOKEN: ": a request waits",
    Reason.IDLE: ": nothing was asked for",
    Reason.UNKNOWN: ": the bounds have changed",
}


def _told_idle(scaling: Scaling, found: Decision, now: datetime) -> datetime | None:
    since = found.idle_since
    if since is None or found.least:
        return None
    return since if (now - since).total_seconds() >= scaling.idle_for * IDLE_TOLD_FROM else None
