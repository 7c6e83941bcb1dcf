"""Sending the reply: in one piece, or frame by frame as the engine produces them."""

import re
import time
from collections.abc import Sequence
from typing import Final

from capstan_gateway.errors import GatewayError
from capstan_gateway.headers import header_lines
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.cache_notes import cache_lines
from capstan_gateway.pipeline.comments import STREAM_LINES
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.frame_room import FREE_FRAME_BYTES, FrameRoom
from capstan_gateway.pipeline.guards.heads import guard_lines
from capstan_gateway.pipeline.limits.heads import limit_lines
from capstan_gateway.pipeline.read_end import read_end
from capstan_gateway.pipeline.reply import StreamReply, WholeReply
from capstan_gateway.routing.verdicts import SERVER_ERROR
from capstan_gateway.serving.refusals import respond_error
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import error_end
from capstan_gateway.tokens.price import dollars_text

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_NAME: Final = 64
_MOST_NAMES: Final = 64


def _own_lines(delivery: Delivery, ask: Ask, deps: Deps) -> bytes:
    """Give the header lines that every answer has."""
    stats = ask.stats
    overhead = deps.clock() - delivery.body_at - stats.first_byte - stats.waited - stats.read
    delivery.overhead = overhead = overhead if overhead > 0.0 else 0.0
    lines = b"%bx-request-id: %b\r\nx-gateway-attempts: %d\r\nx-gateway-overhead-ms: %.2f\r\n" % (
        (ask.answered_by or ask.model).name_lines,
        ask.request_id,
        stats.attempts,
        overhead * 1000,
    )
    if ask.governed is not None:
        lines += limit_lines(ask, time.time())
    if ask.guarded is not None or ask.unchecked:
        lines += guard_lines(ask.guarded or (), unchecked=ask.unchecked)
    if ask.cached is not None:
        lines += cache_lines(ask.cached)
    if stats.queued is not None:
        lines += queue_lines(*stats.queued)
    if ask.route_note or delivery.client_document is not None or delivery.trimmed is not None:
        lines += _further_lines(delivery, ask)
    return lines


def queue_lines(place: int, expected_ms: int) -> bytes:
    """Say how an answer was waited for in the queue; nothing of the expected wait where nobody knew it."""
    lines = b"x-capstan-queue-place: %d\r\n" % place
    return lines if expected_ms < 0 else lines + b"x-capstan-queue-expected-wait: %.3f\r\n" % (expected_ms / 1000)


def _further_lines(delivery: Delivery, ask: Ask) -> bytes:
    headers = []
    if ask.route_note:
        headers.append((b"x-capstan-route", ask.route_note))
    trimmed = delivery.trimmed
    if trimmed is not None:
        headers.append((b"x-capstan-trimmed", b"messages=%d; tokens=%d" % (trimmed.dropped, trimmed.tokens)))
    if ask.counted_by:
        headers.append((b"x-capstan-counted-by", ask.counted_by.encode()))
    if delivery.client_document is not None:
        headers.append((b"request-id", ask.request_id))
        if delivery.dropped_tools:
            headers.append((b"x-capstan-dropped-tools", _names(delivery.dropped_tools)))
    return header_lines(headers)


def _names(kinds: Sequence[str]) -> bytes:
    """Write a list of what a client wrote: each once, and nothing that a header could not hold."""
    return ", ".join(
        _UNFIT.sub("_", kind)[:_LONGEST_NAME] for kind in list(dict.fromkeys(kinds))[:_MOST_NAMES]
    ).encode()


def _cost_line(ask: Ask) -> bytes:
    """Say what the request has cost, when all of it is known; nothing where nobody has said what tokens cost."""
    bill = ask.bill
    return b"x-capstan-cost: %b\r\n" % dollars_text(bill.nano_dollars) if bill.priced and not bill.open else b""


def send_whole(delivery: Delivery, ask: Ask, reply: WholeReply, deps: Deps) -> None:
    """Send an answer that is there as a whole."""
    body = reply.body
    lines = b"content-type: %b\r\ncontent-length: %d\r\n%b" % (
        reply.content_type, len(body), _own_lines(delivery, ask, deps)
    )  # fmt: skip
    if ask.bill.priced:
        lines += _cost_line(ask)
    delivery.exchange.respond(reply.status, lines, body)
    delivery.status = 200


async def send_stream(delivery: Delivery, ask: Ask, reply: StreamReply, deps: Deps) -> None:
    """Send a stream to its end. Raises UpstreamError and StreamBroken when it cannot go on."""
    exchange, relay, source = delivery.exchange, reply.relay, reply.source
    lines = STREAM_LINES + _own_lines(delivery, ask, deps)
    if ask.bill.priced:
        lines += _cost_line(ask)
    last = relay.done and reply.broken is None
    if not exchange.started:
        exchange.start(200, lines, reply.first, last=last)
    elif last:  # The head was sent with a comment.
        exchange.finish(reply.first)
    else:
        exchange.write(reply.first)
    delivery.first_sent_at = deps.clock()
    if reply.broken is not None:
        source.blame(type(reply.broken).__name__)
        raise reply.broken
    run = b""
    room: FrameRoom | None = None
    came = 0
    try:
        while not relay.done:
            if run:
                exchange.write(run)
            if exchange.paused:
                await exchange.drained()
            data = await source.receive()
            run = relay.feed(data) if data else relay.finish()
            came += len(data)
            if came > FREE_FRAME_BYTES:
                # Less can be kept only of what has come since. It may be kept although something is given out.
                room = room or FrameRoom(ask.share, whose=source.endpoint.id)
                room.reckon(relay.kept)
                came = 0 if room.is_free else came
    except StreamBroken as broken:
        source.blame(type(broken).__name__)
        if broken.before:
            exchange.write(broken.before)
        raise
    if not exchange.complete:
        exchange.finish(run)
    delivery.ended = True
    if relay.error is not None:
        delivery.error = relay.error
        if relay.error.status >= SERVER_ERROR:
            source.blame("error-event")
    source.finish()
    delivery.status = 200
    if not source.complete:
        await read_end(source)


async def send_error(delivery: Delivery, error: GatewayError, relay: Relay | None = None) -> None:
    """Answer with an error: as HTTP as long as nothing was sent, as a last frame of the stream otherwise."""
    delivery.error = error
    delivery.status = error.status
    exchange = delivery.exchange
    if exchange.started:
        if exchange.paused:
            await exchange.drained()
        if not exchange.complete:
            exchange.finish(error_end(error) if relay is None else relay.failure(error))
        return
    delivery.status = respond_error(exchange, error, delivery.request_id, delivery.route.dialect)
