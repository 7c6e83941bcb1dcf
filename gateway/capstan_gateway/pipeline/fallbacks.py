"""An answer from the model, from a member of it when it is virtual, or from a fallback."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import GatewayError, ModelNotReady, UpstreamFailed
from capstan_gateway.headers import retry_after_headers
from capstan_gateway.pipeline.arms import assign
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.failures import START_FAILED, no_start
from capstan_gateway.pipeline.layers import AnswerFunction, compose
from capstan_gateway.pipeline.reply import Reply
from capstan_gateway.pipeline.route import Routed, is_usable, rank, takers
from capstan_gateway.routing.unroutable import CannotStart, NoEndpoint, RoutingError
from capstan_gateway.routing.verdicts import Elsewhere, another_model, cannot_take
from capstan_gateway.selection.plan import CascadePlan, RouterPlan
from capstan_gateway.upstream.errors import UpstreamError

MAX_FALLBACKS: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A model that may be asked."""

    model: ServedModel
    """A router only as a fallback, until its members stand in its place."""
    via: ServedModel | None = None
    """The router that it came from, if that is itself a fallback."""
    asked_for: bool = False
    """Whether it is what the client named, or a member of that."""
    members: tuple[ServedModel, ...] | None = None
    """Of a router: those that could take the request, in no order yet."""

    def any(self, holds: Callable[[ServedModel], bool]) -> bool:
        """Whether this holds of the model, or of a member of the router that it is."""
        return holds(self.model) if self.members is None else any(map(holds, self.members))

    def answer(self) -> AnswerFunction:
        """Give the model's answer function with its layers, and inside those of the router that it came from."""
        alone: AnswerFunction = self.model.answer_alone
        return alone if self.via is None else compose(self.via.layers, alone)


async def first_answer(deps: Deps, asked: ServedModel, ask: Ask) -> Reply:
    """Give the reply of the first model that answers; what the last one raised when none does."""
    routed = rank(ask, deps, asked) if isinstance(asked.plan, RouterPlan) else None
    first = [asked] if routed is None else routed.models
    if routed is not None and isinstance(asked.plan, RouterPlan) and asked.plan.setup is not None and not ask.own:
        assign(ask, deps.experiments, deps.pseudonyms, asked.plan.setup, first[0])
    try:
        reply = await _first_of(ask, deps, _with_fallbacks(ask, deps, asked, first))
    except NoEndpoint as error:
        if routed is None:
            raise
        message = f"no model can answer: {routed.explanation}, 0 of them are ready"
        headers = retry_after_headers(error.retry_after)
        if isinstance(error, CannotStart):
            raise ModelNotReady(f"{message}; {no_start(error.failure)}", code=START_FAILED, headers=headers) from error
        raise ModelNotReady(message, headers=headers) from error
    if routed is not None:
        _note(ask, deps, asked, routed)
    return reply


def _with_fallbacks(ask: Ask, deps: Deps, asked: ServedModel, first: Sequence[ServedModel]) -> list[Candidate]:
    """Give the models to ask, in order.

    Those without an endpoint are left out as long as another has one. Those that are not ready, by their breakers, come
    last: a dead engine is tried now and then, not with each request.
    """
    found = {model: Candidate(model, asked_for=True) for model in first}
    bound = ask.governed.bound if ask.governed is not None else None
    for name in asked.fallbacks[:MAX_FALLBACKS]:
        model = ask.runtime.find(name)
        if model is None or model.task is not asked.task or model is asked or model in found:
            continue
        if bound is not None and not bound.allows(ask.request, ask.runtime, model):
            continue
        members = takers(ask, model) if isinstance(model.plan, RouterPlan) else None
        if members is None or members:
            found[model] = Candidate(model, members=members)
    candidates = list(found.values())
    there = [one for one in candidates if one.any(partial(_has_endpoints, ask))]
    if not there:
        # Who waits, waits for one of which a replica may come up.
        there = [one for one in candidates if one.any(partial(_may_start, ask))][:1] or candidates[:1]
    if len(there) > 1:
        there.sort(key=lambda one: not one.any(lambda model: is_usable(ask, model, deps)))
    return there


def _has_endpoints(ask: Ask, model: ServedModel) -> bool:
    if isinstance(model.plan, CascadePlan):
        return any(member.endpoints.states for member in ask.runtime.cascaded(model.plan))
    return bool(model.endpoints.states)


def _may_start(ask: Ask, model: ServedModel) -> bool:
    if isinstance(model.plan, CascadePlan):
        return any(member.endpoints.start_failure is None for member in ask.runtime.cascaded(model.plan))
    return model.endpoints.start_failure is None


def _expanded(ask: Ask, deps: Deps, left: Sequence[Candidate], tried: Container[ServedModel]) -> list[Candidate]:
    """Put the members of routers in the place of these, in order.

    NB: only when they are next, or may be: to put members in order is a turn of theirs.
    """
    if all(one.members is None for one in left):
        return list(left)
    found: dict[ServedModel, Candidate] = {}
    for one in left:
        router = None if one.members is None else one.model
        for model in (one.model,) if router is None else rank(ask, deps, router).models:
            if model not in tried:
                found.setdefault(model, one if router is None else Candidate(model, router))
    return list(found.values())


async def _first_of(ask: Ask, deps: Deps, models: Sequence[Candidate]) -> Reply:
    routed = ask.model.plan is not None
    told: Exception | None = None
    tried: set[ServedModel] = set()
    left = list(models) if models[0].members is None else _expanded(ask, deps, models, tried)
    while left:
        one = left.pop(0)
        model = one.model
        tried.add(model)
        began = deps.clock()
        try:
            ask.may_wait = not left
            if ask.governed is not None and not one.asked_for:
                await ask.governed.cover(ask, model)
            reply = await one.answer()(ask)
            if routed:
                deps.memory.observe(model.id, deps.clock() - began, stream=ask.request.stream)
                for arm in ask.arms:
                    if arm.key == ask.model.id:
                        arm.answered = arm.member == model.id
            return reply
        except (RoutingError, UpstreamError, GatewayError) as error:
            if routed:
                deps.memory.look(model.id, stream=ask.request.stream)
            failed = told is not None and not cannot_take(told, routed=routed)
            spent = ask.stats.spent
            if not spent:
                left = _expanded(ask, deps, left, tried)
            if not spent and (failed or not one.asked_for) and cannot_take(error, routed=routed):
                # That one more model cannot take the request says nothing about the model that was asked for.
                told = told or error
            else:
                left = following(error, model, left, routed=routed, spent=spent)
                told = error
        if not left or not deps.dispatcher.pay_for_fallback():
            raise told
        deps.metrics.retries.at(ask.model.name, "fallback").value += 1
    raise UpstreamFailed("no model could answer")


def following(
    error: Exception, model: ServedModel, left: Sequence[Candidate], *, routed: bool, spent: bool = False
) -> list[Candidate]:
    """Give those of the candidates that may answer after this error of `model`; `spent` as in `verdicts.another_model`.

    None after the request's own fault, or when time is up. Too long a prompt goes to members with a larger window.
    """
    elsewhere = another_model(error, spent=spent)
    if elsewhere is Elsewhere.LARGER_WINDOW:
        window = model.context_window
        if not routed or window is None:
            return []
        return [other for other in left if (other.model.context_window or 0) > window]
    return list(left) if elsewhere is Elsewhere.ANYWHERE else []


def _note(ask: Ask, deps: Deps, asked: ServedModel, routed: Routed) -> None:
    """Say how it was routed: in a header and in the metrics."""
    model = (ask.answered_by or asked).main
    strategy = routed.strategy.lower()
    by = b"fallback" if model not in routed.models[:1] and not ask.route_note else b""
    parts = [strategy.encode(), by, ask.route_note]
    ask.route_note = b"; ".join(part for part in parts if part)
    deps.metrics.route_decisions.at(asked.name, model.name, strategy).value += 1
