"""How many replicas each scaled model should have: decided after each round of questions, in the process that leads.

It writes nothing: a model of which another number was decided, or of which the status has news, is woken, and its
reconcile writes the number under the field manager of its own, and the status. From that status another process goes
on, so that nothing of it has to survive in memory.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Literal

from capstan_contract.names import API_VERSION
from capstan_operator.api.kinds import LLM_MODELS, Model
from capstan_operator.api.scaling import PREEMPT_AFTER_SECONDS, Scaling, ScalingStrategy
from capstan_operator.autoscaling.hpas import NOTHING_SEEN, HpaSight
from capstan_operator.autoscaling.standing import NO_EXTERNAL_SCALER, NO_METRICS_API, Standing
from capstan_operator.desired.autoscaler import NOTHING_SAID, ScalerEndpoint, ScalerSays, Use
from capstan_operator.desired.placement import place_of
from capstan_operator.desired.pods import requested
from capstan_operator.desired.replicas import scaling_in_force
from capstan_operator.desired.scaled_object import ScaledObjectState
from capstan_operator.desired.shortage import find_starved
from capstan_operator.kube.events import Subject
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.scaling.decision import MISSED_SECONDS, Decision, Limit, Now, Reason, Scaler
from capstan_operator.scaling.demand import Demand
from capstan_operator.scaling.preemption import Cap, Contender, Preemption
from capstan_operator.status.scaling import PREEMPTED, Scaled, moment_in, moment_of_failure

log = logging.getLogger(__name__)

NEWS_SECONDS: Final = 10.0
"""For how long a limit has to be another one before the status says so: demand wavers."""
WORK_SECONDS: Final = 30.0
"""For so long behind its last request a model counts as one that has work."""
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
    most: int | None = None
    """Most replicas, while it gives way to another model."""
    keeps_placed: bool = False
    """Whether these are those that nodes have taken, and no fewer."""
    denied_since: datetime | None = None
    """Since when something is asked of it that it may have no replica for, because it gives way."""
    known_at: float | None = None
    """When what is asked of it was known last, or when it was first looked at."""
    use: Use = Use.HOLD
    """Of the HPA."""
    keda: Use = Use.NONE
    endpoint: ScalerEndpoint | None = None
    scaled_object: ScaledObjectState | None = None
    """That of the model, as it was last seen. While there is one, also one that is to go, KEDA may write the number."""
    differs_since: float | None = None
    """Since when the limit is another one than is told."""
    announced: int | None = None
    """The number that an Event is to tell of, as soon as it is written."""
    gpus: "_Gpus" = field(default_factory=lambda: _Gpus())
    worked_at: float | None = None
    """When something was asked of it last."""


@dataclass(frozen=True)
class _Gpus:
    """What a model's pods have of GPUs, and lack."""

    resource: str = ""
    each: int = 0
    """Of one replica."""
    place: str = ""
    placed: int = 0
    starved_since: tuple[datetime, ...] = ()


class Autoscaler:
    """Knows the scaled models by what their reconciles `tell`; `step` decides for all of them."""

    def __init__(
        self,
        demand_of: Callable[[ObjectKey], Demand | None],
        *,
        wake: Callable[[ObjectKey], None],
        record: Record,
        standing: Callable[[], Standing] = lambda: NO_METRICS_API,
        keda: Callable[[], Standing] = lambda: NO_EXTERNAL_SCALER,
        hpas: Callable[[ObjectKey], HpaSight] = lambda _: NOTHING_SEEN,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        self._demand_of = demand_of
        self._wake = wake
        self._record = record
        self._standing = standing
        self._keda = keda
        self._hpas = hpas
        self._now = now
        self._clock = clock
        self._entries: dict[ObjectKey, _Entry] = {}
        self._preemption = Preemption()

    def __len__(self) -> int:
        """How many models are scaled here."""
        return len(self._entries)

    @property
    def wants_hpas(self) -> bool:
        """Whether any model is to be scaled by an HPA."""
        return any(entry.scaling.follows is ScalingStrategy.HPA for entry in self._entries.values())

    @property
    def wants_keda(self) -> bool:
        """Whether any model is to be scaled by KEDA."""
        return any(entry.scaling.follows is ScalingStrategy.KEDA for entry in self._entries.values())

    @property
    def models(self) -> frozenset[ObjectKey]:
        """Which models are scaled here."""
        return frozenset(self._entries)

    @property
    def with_scaled_objects(self) -> frozenset[ObjectKey]:
        """Which models had a ScaledObject when they were told of last."""
        return frozenset(key for key, entry in self._entries.items() if entry.scaled_object is not None)

    def tell(
        self,
        model: Model,
        deployment: Manifest | None,
        *,
        pods: Iterable[Manifest] = (),
        may_have_hpa: bool = True,
        scaled_object: ScaledObjectState | None = None,
    ) -> None:
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
        resource = model.spec.resources.gpuResource if model.spec else ""
        entry.gpus = _gpus_of(resource, deployment, pods)
        entry.may_have_hpa, entry.scaled_object = may_have_hpa, scaled_object
        entry.scaling, entry.current, entry.ready = scaling, current, ready
        if entry.announced == current:
            self._announce(entry)

    def look(self, model: Model, deployment: Manifest | None, *, pods: Iterable[Manifest] = ()) -> None:
        """Take up how a model stands whose spec cannot be used: it is scaled by what was said before; in a new process
        by what the spec says of it, where that can be read at all."""
        entry = self._entries.get(model.key)
        if deployment is None or entry is None or entry.subject.uid != model.uid:
            if model.spec is not None:
                self.tell(model, deployment, pods=pods)
            return
        entry.gpus = _gpus_of(entry.gpus.resource, deployment, pods)
        entry.current = int(deployment["spec"].get("replicas", 1))
        entry.ready = int((deployment.get("status") or {}).get("readyReplicas") or 0)
        if entry.announced == entry.current:
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
        least = entry.decision.least
        return ScalerSays(
            _written_here(entry), entry.use, least, entry.most, entry.keeps_placed, entry.keda, entry.endpoint
        )

    def scaled(self, key: ObjectKey) -> Scaled | None:
        """Give what the status is to say."""
        entry = self._entries.get(key)
        return None if entry is None else entry.told

    def step(self) -> None:
        """Decide for every model by what is known now, and wake those of which there is news."""
        decided = {key: self._decide(key, entry) for key, entry in self._entries.items()}
        caps = self._preempt({key: found for key, (found, _) in decided.items()})
        for key, (found, demand) in decided.items():
            if self._conclude(key, self._entries[key], found, demand, caps.get(key)):
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
        by, slash, name = str(before.get("preemptedBy") or "").partition("/")
        if slash and not current and scaling.gives_way:
            self._preemption.adopt(model.key, ObjectKey(by, name), self._clock())
        subject = Subject(API_VERSION, LLM_MODELS.kind, model.key.namespace, model.key.name, model.uid)
        denied = moment_of_failure(model.status, PREEMPTED) if slash and not current else None
        keda = Use.HOLD if scaling.follows is ScalingStrategy.KEDA else Use.NONE
        return _Entry(subject, scaling, current, ready, Scaler(idle_since), True, told, keda=keda, denied_since=denied)

    def _decide(self, key: ObjectKey, entry: _Entry) -> tuple[Decision, Demand | None]:
        """Decide for one model as if it were alone."""
        clock, demand = self._clock(), self._demand_of(key)
        if demand is not None and (demand.is_pressing or demand.came or demand.was_refused):
            entry.worked_at = clock
        now = Now(self._now(), clock, entry.current, entry.ready)
        return entry.scaler.decide(entry.scaling, demand, now), demand

    def _preempt(self, decided: Mapping[ObjectKey, Decision]) -> Mapping[ObjectKey, Cap]:
        """Say who gives way to whom, and tell those of it for whom somebody begins to."""
        now, clock = self._now(), self._clock()
        contenders = [_contender(key, self._entries[key], found, now, clock) for key, found in decided.items()]
        caps = self._preemption.decide(contenders, clock)
        for key, cap in caps.items():
            begins = self._entries[key].told.preempted_by != str(cap.by)
            if begins and not cap.keeps_placed and self._entries[key].current and cap.by in self._entries:
                note = f"the LLMModel '{key}' goes to zero: it is idle, and of a lower priority"
                self._record(self._entries[cap.by].subject, "Normal", "Preempting", note)
        return caps

    def _conclude(self, key: ObjectKey, entry: _Entry, found: Decision, demand: Demand | None, cap: Cap | None) -> bool:
        """Take up what was decided for one model; say whether there is news of it."""
        now, clock = self._now(), self._clock()
        before, known, was = entry.decision, entry.told.known, _said(entry)
        cap = None if _may_be_kedas(entry) else cap
        entry.decision = found = _capped(entry, found, cap, now)
        entry.most, entry.keeps_placed = (None, False) if cap is None else (cap.most, cap.keeps_placed)
        entry.denied_since = _denied_since(entry, cap, demand, now, clock)
        entry.use, without = self._use(entry)
        entry.keda, entry.endpoint, without_keda = self._use_of_keda(entry)
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
            by_hpa=entry.use is Use.APPLY,
            without_keda=without_keda,
            by_keda=entry.keda is not Use.NONE,
            scaled_object=entry.scaled_object,
            preempted_by="" if cap is None else str(cap.by),
            denied_since=entry.denied_since,
            rivals=_rivals(entry, self._hpas(key)),
            hpa_problem=self._hpas(key).problem if entry.use is Use.APPLY else "",
        )
        written = _written_here(entry)
        if written not in (None, entry.current) and (before is None or before.desired != found.desired):
            told = replace(told, reason=str(found.reason), changed_at=now)
            entry.announced = written
            log.info(
                "decided the number of replicas",
                extra={"model": str(key), "reason": str(found.reason), "replicas": written},
            )
        is_news, entry.told = told != entry.told or was != _said(entry), told
        return is_news

    def _use(self, entry: _Entry) -> tuple[Use, str]:
        """Say whether a model has an HPA, and why not where it should have one."""
        if entry.scaling.follows is not ScalingStrategy.HPA:
            return Use.NONE, ""
        if not entry.may_have_hpa:
            return Use.NONE, "the operator may not list HorizontalPodAutoscalers"
        if entry.scaled_object is not None:
            return Use.HOLD, entry.told.without_hpa  # KEDA has an HPA of its own until it has let go
        standing = self._standing()
        if standing.usable is None:
            return Use.HOLD, entry.told.without_hpa
        return (Use.APPLY, "") if standing.usable else (Use.NONE, standing.problem)

    def _use_of_keda(self, entry: _Entry) -> tuple[Use, ScalerEndpoint | None, str]:
        """Say whether KEDA scales a model, whom it is to ask, and why not where it should."""
        if entry.scaling.follows is not ScalingStrategy.KEDA:
            return Use.NONE, None, ""
        standing = self._keda()
        if standing.usable is None:
            return Use.HOLD, None, entry.told.without_keda
        if not standing.usable:
            return Use.NONE, None, standing.problem
        return Use.APPLY, standing.endpoint, ""

    def _settled_limit(self, entry: _Entry, clock: float, found: Decision) -> Limit | None:
        """Give the limit to tell of: another one than before only when it has lasted for a while."""
        if Limit.PREEMPTED in (found.limited_by, entry.told.limited_by):
            entry.differs_since = None
            return found.limited_by  # It does not waver, and people ask at once where their replicas are.
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


def _gpus_of(resource: str, deployment: Manifest, pods: Iterable[Manifest]) -> _Gpus:
    template = (deployment["spec"].get("template") or {}).get("spec") or {}
    placed, starved = find_starved(pods, resource)
    place = place_of(template, gpu_resource=resource)
    return _Gpus(resource, int(requested(template, resource)), place, placed, starved)


def _contender(key: ObjectKey, entry: _Entry, found: Decision, now: datetime, clock: float) -> Contender:
    gpus = entry.gpus
    return Contender(
        key=key,
        priority=entry.scaling.rank,
        preemptible=entry.scaling.gives_way and not _may_be_kedas(entry),  # it would not let go
        resource=gpus.resource,
        gpus=gpus.each,
        place=gpus.place,
        wanted=_asked(entry, found),
        placed=gpus.placed,
        starved=_starved(entry, now, entry.scaling.preempt_after),
        has_work=_has_work(entry, clock),
        idle_seconds=entry.scaler.idle_seconds(clock),
    )


def _has_work(entry: _Entry, clock: float) -> bool:
    return entry.worked_at is not None and clock - entry.worked_at <= WORK_SECONDS


def _denied_since(
    entry: _Entry, cap: Cap | None, demand: Demand | None, now: datetime, clock: float
) -> datetime | None:
    """Give since when a model may have no replica at all although something is asked of it; what is not known ends
    nothing."""
    is_asked = _has_work(entry, clock) or (demand is None and entry.denied_since is not None)
    if cap is None or cap.most or not is_asked:
        return None
    return entry.denied_since or now


def _asked(entry: _Entry, found: Decision) -> int:
    """Give how many replicas it wants: by an HPA or KEDA at least what that has said."""
    is_said = entry.use is Use.APPLY or _may_be_kedas(entry)
    return max(found.desired, entry.current) if is_said and found.desired else found.desired


def _starved(entry: _Entry, now: datetime, seconds: float = PREEMPT_AFTER_SECONDS) -> int:
    """Give how many of its pods no node takes for want of GPUs, since so long."""
    return sum((now - since).total_seconds() >= seconds for since in entry.gpus.starved_since)


def _capped(entry: _Entry, found: Decision, cap: Cap | None, now: datetime) -> Decision:
    """Give a decision as it is with what other models need, and with what nodes have."""
    if cap is not None:
        reason = Reason.PREEMPTED if cap.most < found.desired else found.reason
        least, desired = min(found.least, cap.most), min(found.desired, cap.most)
        return replace(found, desired=desired, reason=reason, least=least, limited_by=Limit.PREEMPTED)
    if found.limited_by is not Limit.MAX and _starved(entry, now) and found.desired > entry.gpus.placed:
        return replace(found, limited_by=Limit.GPUS)
    return found


def _rivals(entry: _Entry, sight: HpaSight) -> tuple[str, ...]:
    """Give the HPAs that are none of ours: also that of KEDA, where KEDA is to scale the model and the operator does,
    which may not even see the ScaledObject that was left."""
    is_left = entry.scaling.follows is ScalingStrategy.KEDA and not _may_be_kedas(entry)
    return (*sight.rivals, *sight.of_keda) if is_left else sight.rivals


def _may_be_kedas(entry: _Entry) -> bool:
    """Whether KEDA may write the number."""
    return entry.keda is not Use.NONE or entry.scaled_object is not None


def _said(entry: _Entry) -> tuple[object, ...]:
    """Give what the objects that scale a model are made of."""
    least = 1 if entry.decision is None else entry.decision.least
    return entry.use, entry.keda, entry.endpoint, least, entry.most


def _written_here(entry: _Entry) -> int | None:
    """Give the number that is ours to write; None where it is somebody else's.

    With KEDA it is KEDA's, whatever it is. To zero and from zero it is ours else, also of a model with an HPA. While it
    is not known what is asked of the model, a person may set it, within the bounds.
    """
    assert entry.decision is not None  # noqa: S101  # it was decided
    if _may_be_kedas(entry):
        return None
    desired = entry.decision.desired
    if entry.decision.reason is Reason.UNKNOWN:
        bounded = min(max(entry.current, entry.decision.least), entry.scaling.max)
        return bounded if bounded != entry.current else None
    if entry.use is Use.NONE:
        return desired
    if entry.current == 0:
        return min(desired, max(1, entry.decision.least))
    return 0 if desired == 0 else None


def _wanted(entry: _Entry) -> int:
    """Give what there should be: of an HPA's or KEDA's what it has said."""
    written = _written_here(entry)
    return entry.current if written is None else written


_WHY: Final[Mapping[str, str]] = {
    Reason.MORE: ": more is asked for",
    Reason.FEWER: ": fewer have been enough",
    Reason.WOKEN: ": a request waits",
    Reason.IDLE: ": nothing was asked for",
    Reason.UNKNOWN: ": the bounds have changed",
    Reason.PREEMPTED: ": a model of a higher priority has work and lacks GPUs",
}


def _told_idle(scaling: Scaling, found: Decision, now: datetime) -> datetime | None:
    since = found.idle_since
    if since is None or found.least:
        return None
    return since if (now - since).total_seconds() >= scaling.idle_for * IDLE_TOLD_FROM else None
