"""Which members of a virtual model are asked, and in which order: selection, with what the Runtime knows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from capstan_contract.config import StickyBy, Strategy, Task
from capstan_contract.names import AUTO
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.adapters import adapter_for
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.whose import said_user, session_of, user_of
from capstan_gateway.selection.filters import Condition, Member, narrow
from capstan_gateway.selection.needs import Needs, read_needs
from capstan_gateway.selection.order import order, sticky_key
from capstan_gateway.selection.plan import CascadePlan, RouterPlan

_GENERATIVE = frozenset((Task.CHAT, Task.COMPLETION))


@dataclass(frozen=True, slots=True)
class Routed:
    """The models to ask, best first, and what is told when none of them is ready."""

    models: list[ServedModel]
    strategy: Strategy
    explanation: str


def rank(ask: Ask, deps: Deps, model: ServedModel) -> Routed:
    """Put the members of a router in order; InvalidRequest says which condition left none."""
    plan = model.plan
    if not isinstance(plan, RouterPlan):
        raise TypeError(f"{model.id} is not a router")
    needs = needs_of(ask)
    members, explanation = usable_members(ask, model, needs)
    if plan.strategy is Strategy.WEIGHTED:
        # Before readiness is looked at: a ready member of weight 0 must not hide one with weight that is down.
        members = tuple(member for member in members if member.weight > 0)
        if not members:
            raise _nothing_fits(f"{explanation}, 0 of them have a weight above 0")
    ready = [member for member in members if is_usable(ask, member.model, deps)]
    ordered = order(
        ready or members,
        plan.strategy,
        needs,
        route=model.id,
        memory=deps.memory,
        load=_load_in(ask),
        sticky=_sticky(ask, plan),
        stream=ask.request.stream,
    )
    return Routed([member.model for member in ordered], plan.strategy, explanation)


def needs_of(ask: Ask) -> Needs:
    """Read what the request needs."""
    request = ask.request
    return read_needs(request.document, request.size, 0 if request.form is None else len(request.form.file))


def usable_members(ask: Ask, model: ServedModel, needs: Needs) -> tuple[tuple[Member[ServedModel], ...], str]:
    """Give the members that can answer, and how they were found; InvalidRequest when there are none."""
    tasks = ask.request.route.tasks
    members = ask.runtime.members(model, tasks)
    serves = f"serve {' or '.join(sorted(tasks))}"
    speaks: Condition[ServedModel] = (f"can answer at {ask.request.route.path}", _speaks_in(ask))
    extra: tuple[Condition[ServedModel], ...] = (speaks,)
    bound = ask.governed.bound if ask.governed is not None else None
    if bound is not None:
        extra = (speaks, (bound.words, partial(bound.allows, ask.request, ask.runtime)))
    narrowed = narrow(members, needs, serves=serves, extra=extra)
    if not narrowed.members:
        raise _nothing_fits(narrowed.explanation)
    if model.id == AUTO and not tasks & _GENERATIVE and len(narrowed.members) > 1:
        # Vectors and scores of two models cannot be compared, so a choice between them must be the client's.
        names = ", ".join(sorted(member.model.name for member in narrowed.members)[:8])
        raise InvalidRequest(
            f"several models {serves}, and their results do not mix: name one of {names}",
            code="invalid_value",
            param="model",
        )
    return narrowed.members, narrowed.explanation


def takers(ask: Ask, router: ServedModel) -> tuple[ServedModel, ...]:
    """Give the members of a router that could take the request, in no order; none when nothing fits."""
    try:
        members = usable_members(ask, router, needs_of(ask))[0]
    except InvalidRequest:
        return ()
    weighted = isinstance(router.plan, RouterPlan) and router.plan.strategy is Strategy.WEIGHTED
    return tuple(member.model for member in members if member.weight > 0 or not weighted)


def _nothing_fits(explanation: str) -> InvalidRequest:
    return InvalidRequest(f"no model can answer: {explanation}", code="no_model_fits", param="model")


def _speaks_in(ask: Ask) -> Callable[[ServedModel], bool]:
    """Give the condition that a model can be sent this request, in the client's own dialect if it must be."""

    def speaks(model: ServedModel) -> bool:
        if isinstance(model.plan, CascadePlan):
            return ask.request.untranslatable is None
        try:
            adapter = adapter_for(ask.request, model) if model.provider else None
        except InvalidRequest:
            return False
        return ask.request.untranslatable is None or (adapter is not None and adapter.native)

    return speaks


def is_ready(model: ServedModel, deps: Deps) -> bool:
    """Whether an endpoint of the model is there, in good health, and the gateway has its key."""
    now = deps.loop_time()
    for state in model.endpoints.states:
        wanted = state.endpoint.credential
        if state.breaker.allows(now) and (wanted is None or deps.credentials.key(wanted) is not None):
            return True
    return False


def is_usable(ask: Ask, model: ServedModel, deps: Deps) -> bool:
    """Whether a model, or a member of a cascade, is ready."""
    if isinstance(model.plan, CascadePlan):
        return any(is_ready(member, deps) for member in ask.runtime.cascaded(model.plan))
    return is_ready(model, deps)


def _load_in(ask: Ask) -> Callable[[ServedModel], float]:
    """Give the measure of load: requests in flight for each endpoint; of a cascade that of its first member."""

    def load(model: ServedModel) -> float:
        if isinstance(model.plan, CascadePlan):
            model = ask.runtime.cascaded(model.plan)[0]
        states = model.endpoints.states
        return sum(state.in_flight for state in states) / len(states) if states else 0.0

    return load


def _sticky(ask: Ask, plan: RouterPlan) -> bytes | None:
    """Give the key of who keeps a member: the verified user, else what the client calls its user, or its session; None:
    everybody in turn."""
    return sticky_of(ask, plan.sticky_by) if plan.strategy is Strategy.WEIGHTED else None


def sticky_of(ask: Ask, by: StickyBy) -> bytes | None:
    """Give the same, whoever is to keep something; nobody does by `None`."""
    if by is StickyBy.NONE:
        return None
    who = ask.principal
    if by is StickyBy.SESSION:
        return sticky_key("session", session_of(who, ask.session or _text(ask, "prompt_cache_key")))
    return sticky_key("user", user_of(who, said_user(ask.request.document))) or sticky_key(
        "session", session_of(who, ask.session)
    )


def _text(ask: Ask, name: str) -> str:
    value = ask.request.document.get(name)
    return value if isinstance(value, str) else ""
