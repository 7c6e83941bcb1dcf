"""Closing stages: usage is settled and the request recorded exactly once, on every path."""

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.pipeline.context import Reply, RequestContext, StreamReply
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.usage import Usage
from capstan_gateway.telemetry.metrics import CLIENT_GONE, UNKNOWN_MODEL

MILLION = 1_000_000


def settle_usage(context: RequestContext, reply: Reply | None, _: Deps) -> None:
    """Count tokens and their price for the model that answered.

    The engine's own numbers count. Of a stream that was cut off before it told them, its events are counted: engines
    send one for each token.
    """
    context.price_dollars = context.spent_dollars
    if context.usage_settled:
        return
    if isinstance(reply, StreamReply):
        context.usage = _usage_of(reply.relay)
    if context.usage is not None and context.answered_by is not None:
        context.price_dollars += settle_call(context.answered_by, context.usage)


def settle_call(model: ServedModel, usage: Usage) -> float:
    """Count the tokens of one call of a model, and give their price. Called once for each call."""
    model.metrics.input_tokens.value += usage.prompt_tokens
    model.metrics.output_tokens.value += usage.completion_tokens
    if model.price is None:
        return 0.0
    price = price_of(model, usage)
    model.metrics.cost.value += price
    return price


def _usage_of(relay: Relay) -> Usage | None:
    usage = relay.usage
    if usage is None:
        return Usage(0, relay.events) if relay.events else None
    if not relay.finished and relay.events > usage.completion_tokens:
        # Anthropic tells the input at the beginning, and the output at the end.
        return usage._replace(completion_tokens=relay.events)
    return usage


def price_of(model: ServedModel, usage: Usage) -> float:
    """Give the price of an answer in US dollars."""
    price = model.price
    if price is None:
        return 0.0
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    cached_rate = price.inputPerMillion if price.cachedInputPerMillion is None else price.cachedInputPerMillion
    input_price = (usage.prompt_tokens - cached) * price.inputPerMillion + cached * cached_rate
    return (input_price + usage.completion_tokens * price.outputPerMillion) / MILLION


def record(context: RequestContext, reply: Reply | None, deps: Deps) -> None:
    """Count the request and write its line."""
    now = deps.clock()
    status = CLIENT_GONE if context.client_gone else context.status or 500
    if context.model is None:
        deps.metrics.requests.at(UNKNOWN_MODEL, str(status)).value += 1
    else:
        _count(context, context.model, reply, status, now, deps)
    if deps.request_log.enabled:
        deps.request_log.write(_line(context, reply, status, now))


def _count(
    context: RequestContext, served: ServedModel, reply: Reply | None, status: int, now: float, deps: Deps
) -> None:
    stats = context.stats
    metrics = served.metrics
    metrics.in_flight.value -= 1
    if status == 200:
        metrics.succeeded.value += 1
    else:
        metrics.count(status)
    metrics.latency.observe(now - context.started)
    if context.begun and context.error is None:
        metrics.overhead.observe(context.overhead)
    if stats.retries:
        deps.metrics.retries.at(served.name, "endpoint").value += stats.retries
    for outcome in stats.hedges:
        deps.metrics.hedges.at(served.name, outcome).value += 1
    if context.client_gone:
        metrics.aborted("client_gone")
    if context.first_sent_at:
        metrics.first_token.observe(context.first_sent_at - context.started)
        if isinstance(reply, StreamReply) and reply.relay.events > 1:
            metrics.inter_token.observe((now - context.first_sent_at) / (reply.relay.events - 1))


def _line(context: RequestContext, reply: Reply | None, status: int, now: float) -> dict[str, object]:
    line: dict[str, object] = {
        "request_id": context.request_id.decode(),
        "route": context.route.path,
        "model": UNKNOWN_MODEL if context.model is None else context.model.name,
        "status": status,
        "stream": context.stream,
        "duration_ms": round((now - context.started) * 1000, 2),
        "attempts": context.stats.attempts,
    }
    if context.begun and context.error is None:
        line["overhead_ms"] = round(context.overhead * 1000, 3)
    if context.first_sent_at:
        line["first_token_ms"] = round((context.first_sent_at - context.started) * 1000, 2)
    if context.usage is not None:
        line["input_tokens"] = context.usage.prompt_tokens
        line["output_tokens"] = context.usage.completion_tokens
    if context.error is not None:
        line["error"] = context.error.code or context.error.type
    if context.stats.failures:
        line["failures"] = context.stats.failures
    if context.answered_by is not context.model and context.answered_by is not None:
        line["answered_by"] = context.answered_by.name
    if context.route_note:
        line["routed"] = context.route_note.decode()
    if isinstance(reply, StreamReply):
        line["endpoint"] = reply.source.endpoint.id
    return line
