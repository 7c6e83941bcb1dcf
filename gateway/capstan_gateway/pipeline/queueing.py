"""How a request may wait in the queue of its model: how urgent it is, for whom, and how much it will take."""

from functools import partial
from typing import Any, Final

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.estimates import asked_tokens, output_tokens
from capstan_gateway.pipeline.request import Request
from capstan_gateway.queueing.urgency import urgency_of
from capstan_gateway.routing.port import Queueing

QUEUE: Final = "queue"
"""Where tenants have their names in entries."""
SERVICE_TIER: Final = "service_tier"
BATCH: Final = "batch"
"""What a request of a batch counts as saying, whatever its body does."""


def queueing_of(deps: Deps, model: ServedModel, ask: Ask, *, repeatable: bool) -> Queueing | None:
    """Give it; None where the model has no queue, or the gateway no Redis."""
    rules, tiers = model.queue, deps.tiers
    if rules is None or tiers is None:
        return None
    who, request = ask.principal, ask.request
    said = BATCH if who.batch else _service_tier(ask)
    urgency = urgency_of(tiers, who.tier, said)
    return Queueing(
        model=model.id, rules=rules, name=model.name, request_id=ask.request_id.decode("latin-1"),
        tenant=deps.pseudonyms.of(who.tenant, at=QUEUE), priority=urgency.priority, weight=urgency.weight,
        tokens=partial(_tokens, deps, model, request), apart=ask.own or not repeatable, may_wait=ask.may_wait,
    )  # fmt: skip


def _service_tier(ask: Ask) -> Any:
    """Give what the client says; the translation of its dialect leaves that out, because engines know nothing of it."""
    said = ask.request.document.get(SERVICE_TIER)
    return ask.service_tier if said is None else said


def _tokens(deps: Deps, model: ServedModel, request: Request) -> int:
    try:
        output = output_tokens(request, model, deps.means)
    except InvalidRequest:  # Whoever is asked says so.
        output = deps.means.of(model.id)
    return asked_tokens(request, model) + output
