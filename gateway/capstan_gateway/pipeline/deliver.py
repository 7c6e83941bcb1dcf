"""Sending the reply: in one piece, or frame by frame as the engine produces them."""

import asyncio
from typing import Final

from capstan_gateway.errors import GatewayError
from capstan_gateway.headers import header_lines
from capstan_gateway.pipeline.context import RequestContext, StreamReply, WholeReply
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.settle import price_of
from capstan_gateway.routing.port import DispatchedResponse
from capstan_gateway.serving.refusals import respond_error
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import StreamBroken, error_end
from capstan_gateway.upstream.errors import UpstreamError

STREAM_LINES: Final = header_lines(
    (
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    )
)
SERVER_ERROR: Final = 500
END_SECONDS: Final = 0.5
"""How long to wait for the end of an upstream's body behind its last frame, to be able to use its connection again."""


def _own_lines(context: RequestContext, deps: Deps) -> bytes:
    """Give the header lines that every answer has."""
    stats = context.stats
    overhead = deps.clock() - context.body_at - stats.first_byte - stats.waited - stats.read
    context.overhead = overhead = overhead if overhead > 0.0 else 0.0
    lines = b"%bx-request-id: %b\r\nx-gateway-attempts: %d\r\nx-gateway-overhead-ms: %.2f\r\n" % (
        (context.answered_by or context.served).name_lines,
        context.request_id,
        stats.attempts,
        overhead * 1000,
    )
    if context.route_note or context.native is not None:
        lines += _further_lines(context)
    return lines


def _further_lines(context: RequestContext) -> bytes:
    headers = []
    if context.route_note:
        headers.append((b"x-capstan-route", context.route_note))
    if context.native is not None:
        headers.append((b"request-id", context.request_id))
    return header_lines(headers)


def _cost_line(context: RequestContext) -> bytes:
    """Say what an answer that is there as a whole has cost; nothing where nobody has said what tokens cost."""
    model, usage = context.answered_by, context.usage
    if model is None or usage is None or (model.price is None and not context.spent_dollars):
        return b""
    last = 0.0 if context.usage_settled else price_of(model, usage)
    return b"x-capstan-cost: %.8f\r\n" % (context.spent_dollars + last)


def deliver_whole(context: RequestContext, reply: WholeReply, deps: Deps) -> None:
    """Send an answer that is there as a whole."""
    body = reply.body
    lines = b"content-type: %b\r\ncontent-length: %d\r\n%b" % (
        reply.content_type, len(body), _own_lines(context, deps)
    )  # fmt: skip
    model = context.answered_by
    if model is not None and (model.price is not None or context.spent_dollars):
        lines += _cost_line(context)
    context.begun = True
    context.exchange.respond(reply.status, lines, body)
    context.status = 200


async def deliver_stream(context: RequestContext, reply: StreamReply, deps: Deps) -> None:
    """Send a stream to its end. Raises UpstreamError and StreamBroken when it cannot go on."""
    exchange, relay, source = context.exchange, reply.relay, reply.source
    lines = STREAM_LINES + _own_lines(context, deps)
    if context.usage_settled:
        lines += _cost_line(context)
    context.begun = True
    exchange.start(200, lines, reply.first)
    context.first_sent_at = deps.clock()
    if reply.broken is not None:
        source.blame(type(reply.broken).__name__)
        raise reply.broken
    run = b""
    try:
        while not relay.done:
            if run:
                exchange.write(run)
            if exchange.paused:
                await exchange.drained()
            data = await source.receive()
            run = relay.feed(data) if data else relay.finish()
    except StreamBroken as broken:
        source.blame(type(broken).__name__)
        if broken.before:
            exchange.write(broken.before)
        raise
    exchange.finish(run)
    context.ended = True
    if relay.error is not None:
        context.error = relay.error
        if relay.error.status >= SERVER_ERROR:
            source.blame("error-event")
    context.status = 200
    if not source.complete:
        await _read_end(source)


async def _read_end(source: DispatchedResponse) -> None:
    try:
        async with asyncio.timeout(END_SECONDS):
            while await source.receive():
                pass
    except (TimeoutError, UpstreamError):
        # The answer is whole; closing the reply closes the connection.
        return


async def deliver_error(context: RequestContext, error: GatewayError, relay: Relay | None = None) -> None:
    """Answer with an error: as HTTP as long as nothing was sent, as a last frame of the stream otherwise."""
    context.error = error
    context.status = error.status
    exchange = context.exchange
    if context.begun:
        if exchange.paused:
            await exchange.drained()
        if not exchange.complete:
            exchange.finish(error_end(error) if relay is None else relay.failure(error))
        return
    context.begun = True
    context.status = respond_error(exchange, error, context.request_id, context.route.dialect)
