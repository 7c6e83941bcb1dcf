"""What virtual models are made of: the names in their specs become models of the config, or reasons why not.

A member that cannot be used is left out and named; the rest serves. A virtual model with no member left, or without
the judge that it cannot do without, is not accepted, but it keeps its names: nobody else answers under them until its
members are back.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final

from capstan_contract.config import (
    Backend,
    Capability,
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    ModelEntry,
    RouterBackend,
    RouterMember,
    Strategy,
    Task,
)
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import Cascade, Router
from capstan_operator.desired.candidates import Candidate
from capstan_operator.desired.types import MEMBERS_MISSING as MEMBERS_MISSING
from capstan_operator.desired.types import LeftOut, Verdict
from capstan_operator.resources.resource import ObjectKey

JUDGE: Final = "spec.cascade.estimator.judge.name"


def _member(kind: str, index: int) -> str:
    return f"spec.{kind}.members[{index}].name"


def named_members(model: Model) -> Iterator[tuple[str, ObjectKey]]:
    """Give the path of each field of a virtual model that names another model, and the model that it names."""
    router, cascade = (model.spec.router, model.spec.cascade) if model.spec else (None, None)
    for index, chosen in enumerate(router.members if router else ()):
        yield _member("router", index), ObjectKey(model.key.namespace, chosen.name)
    for index, asked in enumerate(cascade.members if cascade else ()):
        yield _member("cascade", index), ObjectKey(model.key.namespace, asked.name)
    if judge := cascade.estimator.judge if cascade else None:
        yield JUDGE, ObjectKey(model.key.namespace, judge.name)


def unasked_members(model: Model) -> frozenset[str]:
    """Give the paths of the members that get no request although they can be used: by weights, those with none."""
    router = model.spec.router if model.spec else None
    if router is None or router.strategy is not Strategy.WEIGHTED:
        return frozenset()
    return frozenset(_member("router", index) for index, member in enumerate(router.members) if not member.weight)


def find_dependents(models: Iterable[Model]) -> dict[ObjectKey, frozenset[ObjectKey]]:
    """Give the virtual models that name each model, whether or not it exists."""
    found: defaultdict[ObjectKey, set[ObjectKey]] = defaultdict(set)
    for model in models:
        for _, member in named_members(model):
            found[member].add(model.key)
    return {member: frozenset(dependents) for member, dependents in found.items()}


def dependence(candidate: Candidate) -> int:
    """Order models so that the members of each come before it: a router may have cascades, neither has routers."""
    if candidate.stays and candidate.draft:
        backend = candidate.draft.backend
        return 2 if isinstance(backend, RouterBackend) else 1 if isinstance(backend, CascadeBackend) else 0
    spec = candidate.model.spec
    return 2 if spec and spec.router else 1 if spec and spec.cascade else 0


def add_virtual(
    candidate: Candidate,
    entry: ModelEntry,
    verdict: Verdict,
    models: Mapping[ObjectKey, Model],
    verdicts: Mapping[ObjectKey, Verdict],
    entries: Mapping[str, ModelEntry],
) -> tuple[Verdict, ModelEntry | None]:
    """Give a virtual model's entry its members, as far as they can be used; give the verdict too.

    `verdicts` and `entries` must hold those of all its members.
    """
    model = candidate.model
    if candidate.stays:
        backend = _remaining(entry.backend, entries)
        if backend is None:
            return replace(verdict, kept=False, kept_backend="", held=""), None
    else:
        left_out = find_left_out(model, models, verdicts, entries)
        if missing := judge_members(model, left_out):
            return replace(missing, lost_names=verdict.lost_names), None
        verdict, backend = replace(verdict, left_out=left_out), virtual_backend(model, left_out)
    ids = [member.model for member in backend.members] if isinstance(backend, RouterBackend) else backend.members
    entry = entry.model_copy(update={"backend": backend})
    return verdict, entry if candidate.stays else with_members_limits(entry, tuple(entries[one] for one in ids))


def _remaining(backend: Backend, entries: Mapping[str, ModelEntry]) -> RouterBackend | CascadeBackend | None:
    """Give what is left of the members of an entry that is kept; None for nothing, or for a judge that is missing."""
    if isinstance(backend, RouterBackend):
        chosen = tuple(one for one in backend.members if _may_have(backend, entries.get(one.model)))
        return backend.model_copy(update={"members": chosen}) if chosen else None
    if not isinstance(backend, CascadeBackend):
        return None
    asked = tuple(one for one in backend.members if _may_have(backend, entries.get(one)))
    judge = backend.estimator.judge
    if not asked or (judge is not None and not _may_have(backend, entries.get(judge))):
        return None
    return backend.model_copy(update={"members": asked})


def _may_have(backend: RouterBackend | CascadeBackend, member: ModelEntry | None) -> bool:
    virtual = RouterBackend if isinstance(backend, RouterBackend) else (RouterBackend, CascadeBackend)
    return member is not None and not isinstance(member.backend, virtual)


def find_left_out(
    model: Model,
    models: Mapping[ObjectKey, Model],
    verdicts: Mapping[ObjectKey, Verdict],
    entries: Mapping[str, ModelEntry],
) -> tuple[LeftOut, ...]:
    """Give the members of a virtual model that cannot be used. `verdicts` must hold those on all its members."""
    found = (
        (field, key, _objection(model, field, models.get(key), verdicts.get(key), entries.get(str(key))))
        for field, key in named_members(model)
    )
    return tuple(LeftOut(field, key, objection) for field, key, objection in found if objection)


def _objection(
    model: Model, field: str, member: Model | None, verdict: Verdict | None, entry: ModelEntry | None
) -> str:
    """Say what is wrong with a member; nothing when it can be used. What counts of an entry that stays is that."""
    spec = model.spec
    if member is None or spec is None:
        return "does not exist"
    if member.deleting:
        return "is being deleted"
    kept = entry if verdict and verdict.stays else None
    if member.spec is None and kept is None:
        return "has a faulty spec"
    if isinstance(kept.backend, RouterBackend) if kept else member.spec and member.spec.router:
        return "is a router itself"
    if spec.cascade and (isinstance(kept.backend, CascadeBackend) if kept else member.spec and member.spec.cascade):
        return "is a cascade itself"
    task, wanted = kept.task if kept else _task(member), Task.CHAT if field == JUDGE else spec.model.task
    if task is not wanted:
        return f"has the task {task}, not {wanted}"
    if verdict is None:
        raise ValueError(f"the verdict on '{member.key}' is not given yet")
    return "" if verdict.accepted or kept else f"is not accepted ({verdict.reason})"


def _task(model: Model) -> Task | None:
    return model.spec.model.task if model.spec else None


def judge_members(model: Model, left_out: tuple[LeftOut, ...]) -> Verdict | None:
    """Give the verdict on a virtual model for want of members; None when it has enough of them."""
    spec, gone = model.spec, {one.field for one in left_out}
    if all(field in gone for field, _ in named_members(model) if field != JUDGE):
        return _missing("none of its members can answer", left_out)
    estimator = spec.cascade.estimator if spec and spec.cascade else None
    if estimator and estimator.type is EstimatorType.JUDGE and JUDGE in gone:
        return _missing("its judge cannot answer", left_out)
    return None


def _missing(what: str, left_out: tuple[LeftOut, ...]) -> Verdict:
    return Verdict(accepted=False, reason=MEMBERS_MISSING, message=f"{what}: {describe(left_out)}", left_out=left_out)


def describe(left_out: Iterable[object]) -> str:
    """Write in one line what is left out and why."""
    return "; ".join(map(str, left_out))


def virtual_backend(model: Model, left_out: tuple[LeftOut, ...]) -> RouterBackend | CascadeBackend:
    """Give the backend of a virtual model, without what is left out of it. At least one member must remain."""
    gone = {one.field for one in left_out}
    usable = {field: str(key) for field, key in named_members(model) if field not in gone}
    if model.spec and model.spec.router:
        return _router_backend(model.spec.router, usable)
    if model.spec and model.spec.cascade:
        return _cascade_backend(model.spec.cascade, usable)
    raise ValueError(f"the LLMModel '{model.key}' is not virtual")


def _router_backend(router: Router, usable: Mapping[str, str]) -> RouterBackend:
    members = (
        RouterMember(model=usable[field], weight=member.weight, priority=member.priority)
        for index, member in enumerate(router.members)
        if (field := _member("router", index)) in usable
    )
    return RouterBackend(
        strategy=router.strategy,
        stickyBy=router.stickyBy,
        members=tuple(sorted(members, key=lambda member: member.model)),
    )


def _cascade_backend(cascade: Cascade, usable: Mapping[str, str]) -> CascadeBackend:
    fields = (_member("cascade", index) for index in range(len(cascade.members)))
    judge = cascade.estimator.judge
    timeout = {"judgeTimeoutSeconds": float(judge.timeoutSeconds)} if judge and JUDGE in usable else {}
    return CascadeBackend(
        members=tuple(usable[field] for field in fields if field in usable),
        threshold=float(Decimal(cascade.threshold)),
        maxCost=None if cascade.maxCost is None else float(Decimal(cascade.maxCost)),
        estimator=CascadeEstimator(type=cascade.estimator.type, judge=usable.get(JUDGE), **timeout),
    )


def with_members_limits(entry: ModelEntry, members: tuple[ModelEntry, ...]) -> ModelEntry:
    """Fill what a virtual model does not say itself: it can do what any of its members can.

    A limit is the largest of the members' limits, and unknown when that of a member is.
    """
    capabilities: set[Capability] = {capability for member in members for capability in member.capabilities}
    return entry.model_copy(
        update={
            "capabilities": entry.capabilities or tuple(sorted(capabilities)),
            "contextWindow": entry.contextWindow or _largest([member.contextWindow for member in members]),
            "maxOutputTokens": entry.maxOutputTokens or _largest([member.maxOutputTokens for member in members]),
        }
    )


def _largest(limits: list[int | None]) -> int | None:
    known = [limit for limit in limits if limit is not None]
    return max(known) if known and len(known) == len(limits) else None
