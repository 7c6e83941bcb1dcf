"""`POST /v1/moderations`: what guards of type Moderation say of texts, without anything being done about it.

a model that moderates (its name tells its format)    is asked itself
any other one                                         the guards of type Moderation that are in force on it are
none named                                            the first one that who asks may use and that has either

What limits the model limits these requests. What guards in the process redact on that model is redacted before it goes
to who judges it; no other guard acts on them.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from capstan_contract.config import Task
from capstan_contract.guards import MOST_TIMEOUT_MILLIS, ModerationGuard, Source
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.documents import to_json
from capstan_gateway.errors import GatewayError, GuardUnavailable, InvalidRequest
from capstan_gateway.guards.prompts.formats import known_format
from capstan_gateway.guards.prompts.unreadable import Unreadable
from capstan_gateway.headers import JSON
from capstan_gateway.life.threads import Busy
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asked.failures import NotAsked
from capstan_gateway.pipeline.guards.asked.moderation import Moderator
from capstan_gateway.pipeline.guards.layer import GuardLayer
from capstan_gateway.pipeline.guards.moderated import answer_of, inputs_of
from capstan_gateway.pipeline.guards.pieces import Piece, Place
from capstan_gateway.pipeline.guards.redacting import redacted, redacting
from capstan_gateway.pipeline.layers import Order, compose
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.routing.unroutable import RoutingError
from capstan_gateway.upstream.errors import UpstreamError

OK: Final = 200
_MODERATING: Final = frozenset((Task.CHAT, Task.COMPLETION, Task.CLASSIFY))
_FAILURES: Final = (NotAsked, Unreadable, Busy, RoutingError, UpstreamError, GatewayError, TimeoutError)


async def answer_moderation(deps: Deps, ask: Ask) -> Reply:
    """Answer a request of this route; raises what refuses it, or GuardUnavailable."""
    texts = inputs_of(ask.request.document)
    model = _default(ask, deps) if ask.model is ask.runtime.auto else ask.model
    moderators = moderators_of(model, deps)
    if not moderators:
        raise InvalidRequest(
            f"the model `{model.name}` does not moderate, and no guard of type Moderation is in force on it",
            code="invalid_value", param="model",
        )  # fmt: skip
    limits = [layer for layer in model.layers if layer.order is Order.LIMITS]
    return await compose(limits, partial(_moderated, model, moderators, texts))(ask)


async def _moderated(
    model: ServedModel, moderators: Sequence[tuple[Moderator, bool]], texts: Sequence[str], ask: Ask
) -> Reply:
    shown = [Piece(text, Source.USER, Place(None, "input")) for text in texts]
    texts = [piece.text for piece in await redacted(redacting((model,)), ask, shown)]
    told: list[tuple[list[tuple[str, float]], dict[str, float]]] = [([], {}) for _ in texts]
    for one, everywhere in moderators:
        try:
            async with asyncio.timeout(one.guard.timeoutMillis / 1000):
                said = await one.say(ask, texts, everywhere=everywhere)
        except _FAILURES:
            # NB: not which model that was, nor why: who asks need not be allowed to know it.
            raise GuardUnavailable("the texts could not be moderated; try again") from None
        for (found, scores), of_one in zip(told, said, strict=True):
            found.extend(of_one.found)
            for name, score in of_one.scores.items():
                scores[name] = max(score, scores.get(name, 0.0))
    ask.answered_by = model
    answer = answer_of(ask.request_id.decode("ascii", "replace"), model.name, told)
    return WholeReply(OK, JSON, to_json(answer))


def moderators_of(model: ServedModel, deps: Deps) -> list[tuple[Moderator, bool]]:
    """Give who moderates for a model: it itself, else the guards that are in force on it; none where nobody does."""
    if moderates(model):
        guard = ModerationGuard(
            name="moderation", appliesTo=(Source.USER,), model=model.id, timeoutMillis=MOST_TIMEOUT_MILLIS
        )
        return [(Moderator(guard, deps), False)]
    return list(_in_force(model))


def moderates(model: ServedModel) -> bool:
    """Whether a model is one that moderates."""
    return (
        model.plan is None and model.task in _MODERATING and known_format(model.upstream_name, model.name) is not None
    )


def _in_force(model: ServedModel) -> Iterable[tuple[Moderator, bool]]:
    for layer in model.layers:
        if isinstance(layer, GuardLayer) and layer.policy.enforces:
            for one in (*layer.policy.input, *layer.policy.output):
                if isinstance(one.asking, Moderator):
                    yield one.asking, layer.everywhere
                    break


def _default(ask: Ask, deps: Deps) -> ServedModel:
    """Give the first model that can, of those that who asks may use, by their names."""
    named = sorted(ask.runtime.full.by_id.values(), key=lambda model: model.name)
    for model in (*filter(moderates, named), *named):
        if moderators_of(model, deps):
            return model
    raise InvalidRequest(
        "no model moderates, and no guard of type Moderation is in force on any", code="invalid_value", param="model"
    )
