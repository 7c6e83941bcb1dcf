"""The end of a delivery: the request is counted, and its line written, exactly once and on every path."""

from typing import Final

from capstan_gateway.identity.principal import Principal
from capstan_gateway.pipeline.arms import count_arms
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.given import note_given
from capstan_gateway.pipeline.reply import StreamReply
from capstan_gateway.telemetry.metrics import CLIENT_GONE, UNKNOWN_MODEL
from capstan_gateway.telemetry.tenants import TenantMetrics
from capstan_gateway.tokens.price import to_dollars

LOGGED: Final = "log"
"""Where users have their names in the log, beside those that they have at models."""
_USER: Final = "user:"
_KEY: Final = "key:"
"""What `tenant_for` puts before who is a tenant by itself."""


def record(delivery: Delivery, deps: Deps) -> None:
    """Count the request and write its line. Its ask has been settled, unless that outlives the client."""
    now = deps.clock()
    status = CLIENT_GONE if delivery.client_gone else delivery.status or 500
    ask = delivery.ask
    if ask is None:
        deps.metrics.requests.at(UNKNOWN_MODEL, str(status)).value += 1
    else:
        metrics, stats = ask.model.metrics, ask.stats
        metrics.in_flight.value -= 1
        metrics.latency.observe(now - delivery.started)
        if delivery.error is None and delivery.exchange.started:
            metrics.overhead.observe(delivery.overhead)
        if status == 200:
            metrics.succeeded.value += 1
        else:
            metrics.count(status)
        if delivery.first_sent_at or stats.retries or stats.hedges or delivery.client_gone:
            _count_more(delivery, ask, now, deps)
        if ask.arms:
            count_arms(delivery, ask, status, now)
        if deps.given is not None and status == 200:
            note_given(deps.given, delivery, ask)
        usage = deps.usage
        if usage is not None and (ask.bill.settled or ask.bill.cached is not None):
            who = ask.principal
            usage.note(who.tenant, who.team, who.user, (ask.answered_by or ask.model).name, ask.bill)
    if deps.tenants is not None:
        _count_tenant(_tenant_said(delivery.principal, deps), status, ask, deps.tenants)
    if deps.request_log.enabled:
        line = _line(delivery, ask, status, now)
        if delivery.principal.key:
            line |= _who(delivery.principal, deps)
        deps.request_log.write(line)


def _count_tenant(tenant: str, status: int, ask: Ask | None, tenants: TenantMetrics) -> None:
    if ask is None:
        tenants.count(tenant, status)
        return
    bill = ask.bill
    tenants.count(
        tenant, status, input_tokens=bill.input_tokens, output_tokens=bill.output_tokens,
        nano_dollars=bill.nano_dollars,
    )  # fmt: skip


def _count_more(delivery: Delivery, ask: Ask, now: float, deps: Deps) -> None:
    """Count what an answer in one piece at the first attempt does not have."""
    stats, metrics = ask.stats, ask.model.metrics
    if stats.retries:
        deps.metrics.retries.at(ask.model.name, "endpoint").value += stats.retries
    for outcome in stats.hedges:
        deps.metrics.hedges.at(ask.model.name, outcome).value += 1
    if delivery.client_gone:
        metrics.aborted("client_gone")
    if delivery.first_sent_at:
        metrics.first_token.observe(delivery.first_sent_at - delivery.started)
        reply = delivery.reply
        if isinstance(reply, StreamReply) and reply.relay.events > 1:
            metrics.inter_token.observe((now - delivery.first_sent_at) / (reply.relay.events - 1))


def _line(delivery: Delivery, ask: Ask | None, status: int, now: float) -> dict[str, object]:
    line: dict[str, object] = {
        "request_id": delivery.request_id.decode(),
        "route": delivery.route.path,
        "model": UNKNOWN_MODEL if ask is None else ask.model.name,
        "status": status,
        "stream": ask is not None and ask.request.stream,
        "duration_ms": round((now - delivery.started) * 1000, 2),
        "attempts": 0 if ask is None else ask.stats.attempts,
    }
    if delivery.exchange.started and delivery.error is None:
        line["overhead_ms"] = round(delivery.overhead * 1000, 3)
    if delivery.first_sent_at:
        line["first_token_ms"] = round((delivery.first_sent_at - delivery.started) * 1000, 2)
    if delivery.trimmed is not None:
        line["trimmed_messages"] = delivery.trimmed.dropped
    if delivery.error is not None:
        line["error"] = delivery.error.code or delivery.error.type
    if ask is not None:
        line |= _work(ask)
    if isinstance(delivery.reply, StreamReply):
        line["endpoint"] = delivery.reply.source.endpoint.id
    return line


def _who(principal: Principal, deps: Deps) -> dict[str, object]:
    """Say who asked: tenant and name of the key, and the user by a hash whose key is the installation's.

    A tenant that is one user, and a token, which has a subject instead of a name, are said by such a hash too.
    """
    said: dict[str, object] = {
        "tenant": _tenant_said(principal, deps), "key": _key_said(principal.key, deps),
    }  # fmt: skip
    if principal.user:
        said["user"] = deps.pseudonyms.of(principal.user, at=LOGGED)
    return said


def _tenant_said(principal: Principal, deps: Deps) -> str:
    """Give the tenant as others may know it: of one that is a single user, or a token, a hash stands for the name."""
    tenant = principal.tenant
    if tenant.startswith(_USER):
        return _USER + deps.pseudonyms.of(tenant.removeprefix(_USER), at=LOGGED)
    if tenant.startswith(_KEY):
        return _KEY + _key_said(tenant.removeprefix(_KEY), deps)
    return tenant


def _key_said(key: str, deps: Deps) -> str:
    """Give the name of a key; of a token, which has an issuer and a subject instead, a hash of both."""
    return deps.pseudonyms.of(key, at=LOGGED) if " " in key else key


def _work(ask: Ask) -> dict[str, object]:
    """Say what was done for the answer."""
    said: dict[str, object] = {}
    bill = ask.bill
    if bill.calls:
        said["input_tokens"] = bill.input_tokens
        said["output_tokens"] = bill.output_tokens
        said["tokens"] = bill.how
    if bill.priced:
        said["cost_dollars"] = to_dollars(bill.nano_dollars)
    if ask.cached is not None:
        said["cache"] = ask.cached.word.value
    if bill.cached is not None:
        usage, nano_dollars = bill.cached
        said["saved_tokens"] = usage.prompt_tokens + usage.completion_tokens
        said["saved_dollars"] = to_dollars(nano_dollars)
    if ask.stats.counted is not None:
        said["count_ms"] = round(ask.stats.counted * 1000, 2)
    if ask.stats.failures:
        said["failures"] = ask.stats.failures
    by = ask.answered_by
    if by is not None:
        if by.main is not ask.model:
            said["answered_by"] = by.name
        if by.track:
            said["track"] = by.track
    if ask.route_note:
        said["routed"] = ask.route_note.decode()
    return said
