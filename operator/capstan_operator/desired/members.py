"""What virtual models are made of: the names in their specs become models of the config, or reasons why not.

A member that cannot be used is left out and named; the rest serves. A virtual model with no member left, or without
the judge that it cannot do without, is not accepted, but it keeps its names: nobody else answers under them until its
members are back.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

from capstan_contract.config import (
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
from capstan_operator.desired.types import LeftOut, Verdict
from capstan_operator.resources.resource import ObjectKey

MEMBERS_MISSING: Final = "MembersMissing"


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


def find_left_out(
    model: Model, models: Mapping[ObjectKey, Model], verdicts: Mapping[ObjectKey, Verdict]
) -> tuple[LeftOut, ...]:
    """Give the members of a virtual model that cannot be used. `verdicts` must hold those on all its members."""
    found = ((field, key, _objection(model, field, key, models, verdicts)) for field, key in named_members(model))
    return tuple(LeftOut(field, key, objection) for field, key, objection in found if objection)


def _objection(
    model: Model, field: str, key: ObjectKey, models: Mapping[ObjectKey, Model], verdicts: Mapping[ObjectKey, Verdict]
) -> str:
    """Say what is wrong with a member; nothing when it can be used."""
    member, spec = models.get(key), model.spec
    if member is None or spec is None:
        return "does not exist"
    if member.deleting:
        return "is being deleted"
    if member.spec is None:
        return "has a faulty spec"
    if member.spec.router:
        return "is a router itself"
    if member.spec.cascade and spec.cascade:
        return "is a cascade itself"
    task = Task.CHAT if field == JUDGE else spec.model.task
    if member.spec.model.task is not task:
        return f"has the task {member.spec.model.task}, not {task}"
    verdict = verdicts[key]
    return "" if verdict.accepted else f"is not accepted ({verdict.reason})"


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


def describe(left_out: tuple[LeftOut, ...]) -> str:
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
