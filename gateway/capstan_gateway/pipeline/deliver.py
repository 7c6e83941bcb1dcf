"""Sending the reply: in one piece, or frame by frame as the engine produces them."""

import asyncio
from typing import Final

from capstan_gateway.api.errors import error_response
from capstan_gateway.errors import GatewayError
from capstan_gateway.pipeline.context import HeaderList, Reply, RequestContext, StreamReply, WholeReply
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.settle import price_of
from capstan_gateway.routing.port import DispatchedResponse
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import StreamBroken, error_end
from capstan_gateway.upstream.errors import UpstreamError

STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
SERVER_ERROR: Final = 500
END_SECONDS: Final = 0.5
"""How long to wait for the end of an upstream's body behind its last frame, to be able to use its connection again."""


async def deliver(context: RequestContext, reply: Reply, deps: Deps) -> None:
    """Send the reply to its end. UpstreamError and StreamBroken come out when a stream cannot go on."""
    if isinstance(reply, WholeReply):
        await _deliver_whole(context, reply, deps)
    else:
        await _deliver_stream(context, reply, deps)
    context.status = 200


def _own_headers(context: RequestContext, deps: Deps) -> HeaderList:
    now = deps.clock()
    stats = context.stats
    overhead = max(0.0, now - context.body_at - stats.first_byte - stats.waited - stats.read)
    context.overhead = overhead
    headers = [
        (b"x-request-id", context.request_id_header),
        (b"x-capstan-model", (context.answered_by or context.served).name_header),
        (b"x-gateway-attempts", b"%d" % stats.attempts),
        (b"x-gateway-overhead-ms", b"%.2f" % (overhead * 1000)),
    ]
    if context.route_note:
        headers.append((b"x-capstan-route", context.route_note))
    if context.native is not None:
        headers.append((b"request-id", context.request_id_header))
    return headers


def _cost_header(context: RequestContext) -> HeaderList:
    """Give what an answer that is there as a whole has cost; nothing where nobody has said what tokens cost."""
    model, usage = context.answered_by, context.usage
    if model is None or usage is None or (model.price is None and not context.spent_dollars):
        return []
    last = 0.0 if context.usage_settled else price_of(model, usage)
    return [(b"x-capstan-cost", b"%.8f" % (context.spent_dollars + last))]


async def _deliver_whole(context: RequestContext, reply: WholeReply, deps: Deps) -> None:
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *_own_headers(context, deps),
        *context.connection_headers,
    ]
    model = context.answered_by
    if model is not None and (model.price is not None or context.spent_dollars):
        headers.extend(_cost_header(context))
    context.begun = True
    await context.send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await context.send({"type": "http.response.body", "body": reply.body})


async def _deliver_stream(context: RequestContext, reply: StreamReply, deps: Deps) -> None:
    send, relay, source = context.send, reply.relay, reply.source
    headers = [*STREAM_HEADERS, *_own_headers(context, deps), *context.connection_headers]
    if context.usage_settled:
        headers.extend(_cost_header(context))
    context.begun = True
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply.first, "more_body": True})
    context.first_sent_at = deps.clock()
    if reply.broken is not None:
        source.blame(type(reply.broken).__name__)
        raise reply.broken
    try:
        while not relay.done:
            data = await source.receive()
            run = relay.feed(data) if data else relay.finish()
            if run:
                await send({"type": "http.response.body", "body": run, "more_body": True})
    except StreamBroken as broken:
        source.blame(type(broken).__name__)
        if broken.before:
            await send({"type": "http.response.body", "body": broken.before, "more_body": True})
        raise
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    # From here on the server reports a disconnect because the answer is over: nobody has gone away.
    context.ended = True
    if relay.error is not None:
        context.error = relay.error
        if relay.error.status >= SERVER_ERROR:
            source.blame("error-event")
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
    if context.begun:
        last = error_end(error) if relay is None else relay.failure(error)
        await context.send({"type": "http.response.body", "body": last, "more_body": False})
        return
    context.begun = True
    status, headers, body = error_response(error, context.request_id_header, context.route.dialect)
    context.status = status
    headers.extend(context.connection_headers)
    await context.send({"type": "http.response.start", "status": status, "headers": headers})
    await context.send({"type": "http.response.body", "body": body})
