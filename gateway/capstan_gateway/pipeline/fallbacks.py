"""An answer from the model, from a member of it when it is virtual, or from a fallback."""

from collections.abc import Mapping, Sequence
from typing import Final

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import GatewayError, ModelNotReady, UpstreamFailed
from capstan_gateway.headers import retry_after_headers
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.layers import AnswerFunction, compose
from capstan_gateway.pipeline.reply import Reply
from capstan_gateway.pipeline.route import Routed, is_usable, rank
from capstan_gateway.routing.unroutable import NoEndpoint, RoutingError
from capstan_gateway.routing.verdicts import Elsewhere, another_model, cannot_take
from capstan_gateway.selection.plan import CascadePlan, RouterPlan
from capstan_gateway.upstream.errors import UpstreamError

MAX_FALLBACKS: Final = 5


async def first_answer(deps: Deps, asked: ServedModel, ask: Ask) -> Reply:
    """Give the reply of the first model that answers; what the last one raised when none does."""
    routed = rank(ask, deps, asked) if isinstance(asked.plan, RouterPlan) else None
    first = [asked] if routed is None else routed.models
    models, via = _with_fallbacks(ask, deps, asked, first)
    try:
        reply = await _first_of(ask, deps, models, first, via)
    except NoEndpoint as error:
        if routed is None:
            raise
        message = f"no model can answer: {routed.explanation}, 0 of them are ready"
        raise ModelNotReady(message, headers=retry_after_headers(error.retry_after)) from error
    if routed is not None:
        _note(ask, deps, asked, routed)
    return reply


def _with_fallbacks(
    ask: Ask, deps: Deps, asked: ServedModel, first: Sequence[ServedModel]
) -> tuple[list[ServedModel], Mapping[ServedModel, ServedModel]]:
    """Give the models to ask, in order, and the router that each came from if that is itself a fallback.

    One without an endpoint is passed over when another one has some. Those that fail, or asked to be left alone, come
    last: a dead engine is tried now and then, not with each request.
    """
    found, via = list(first), dict[ServedModel, ServedModel]()
    for name in asked.fallbacks[:MAX_FALLBACKS]:
        model = ask.runtime.find(name)
        if model is None or model.task is not asked.task:
            continue
        more = rank(ask, deps, model).models if isinstance(model.plan, RouterPlan) else [model]
        for one in more:
            if one not in found:
                found.append(one)
                via[one] = model
    there = [model for model in found if _has_endpoints(ask, model)] or found[:1]
    if len(there) > 1:
        there.sort(key=lambda model: not is_usable(ask, model, deps))
    return there, via


def _has_endpoints(ask: Ask, model: ServedModel) -> bool:
    if isinstance(model.plan, CascadePlan):
        return any(ask.runtime.by_id[member].endpoints.states for member in model.plan.members)
    return bool(model.endpoints.states)


async def _first_of(
    ask: Ask,
    deps: Deps,
    models: Sequence[ServedModel],
    asked: Sequence[ServedModel],
    via: Mapping[ServedModel, ServedModel],
) -> Reply:
    left = list(models)
    routed = ask.model.plan is not None
    told: Exception | None = None
    while left:
        model = left.pop(0)
        began = deps.clock()
        try:
            ask.may_wait = not left
            reply = await _answer_of(model, via.get(model, model))(ask)
            if routed:
                deps.memory.observe(model.id, deps.clock() - began, stream=ask.request.stream)
            return reply
        except (RoutingError, UpstreamError, GatewayError) as error:
            if routed:
                deps.memory.look(model.id, stream=ask.request.stream)
            failed = told is not None and not cannot_take(told, routed=routed)
            spent = ask.stats.spent
            if not spent and (failed or model not in asked) and cannot_take(error, routed=routed):
                # That one more model cannot take the request says nothing about the model that was asked for.
                told = told or error
            else:
                left = following(error, model, left, routed=routed, spent=spent)
                told = error
        if not left or not deps.dispatcher.pay_for_fallback():
            raise told
        deps.metrics.retries.at(ask.model.name, "fallback").value += 1
    raise UpstreamFailed("no model could answer")


def _answer_of(model: ServedModel, via: ServedModel) -> AnswerFunction:
    """Give the answer function of a model with its layers, and inside those of the router that it came from."""
    answer: AnswerFunction = model.answer_alone
    return answer if via is model else compose(via.layers, answer)


def following(
    error: Exception, model: ServedModel, left: Sequence[ServedModel], *, routed: bool, spent: bool = False
) -> list[ServedModel]:
    """Give those of the models that may answer after this error of `model`; `spent` as in `verdicts.another_model`.

    None after the request's own fault, or when time is up. Too long a prompt goes to members with a larger window.
    """
    elsewhere = another_model(error, spent=spent)
    if elsewhere is Elsewhere.LARGER_WINDOW:
        window = model.context_window
        if not routed or window is None:
            return []
        return [other for other in left if other.context_window is not None and other.context_window > window]
    return list(left) if elsewhere is Elsewhere.ANYWHERE else []


def _note(ask: Ask, deps: Deps, asked: ServedModel, routed: Routed) -> None:
    """Say how it was routed: in a header and in the metrics."""
    model = ask.answered_by or asked
    strategy = routed.strategy.lower()
    by = b"fallback" if model not in routed.models[:1] and not ask.route_note else b""
    parts = [strategy.encode(), by, ask.route_note]
    ask.route_note = b"; ".join(part for part in parts if part)
    deps.metrics.route_decisions.at(asked.name, model.name, strategy).value += 1
