"""One request from its first byte to its record; whatever goes wrong on the way becomes one answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from capstan_gateway.errors import ClientGone, ShuttingDown, UpstreamFailed
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.asked_later import acknowledge
from capstan_gateway.pipeline.beside import LARGE_BYTES
from capstan_gateway.pipeline.call import OTHER_FORM
from capstan_gateway.pipeline.comments import may_comment, with_comments
from capstan_gateway.pipeline.costed import costed
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.failures import to_gateway_error
from capstan_gateway.pipeline.max_cost import bind_cost
from capstan_gateway.pipeline.options import NO_OPTIONS
from capstan_gateway.pipeline.parse import receive, receive_later
from capstan_gateway.pipeline.prefixing import with_prefix
from capstan_gateway.pipeline.present import present, present_large
from capstan_gateway.pipeline.record import record
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.resolve import resolve
from capstan_gateway.pipeline.send import send_error, send_stream, send_whole
from capstan_gateway.pipeline.stored import with_history
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.upstream.errors import UpstreamError

LAST_WORD_SECONDS: Final = 1.0
"""How long an interrupted request may take to tell its client why."""


async def serve(
    delivery: Delivery,
    deps: Deps,
    leave: Callable[[Delivery], None],
    answer: Callable[[Ask], Awaitable[Reply]] | None = None,
) -> None:
    """Answer the request, whatever happens, and `leave` at the end; raises only when the process cancels it.

    `answer` gives the reply in place of the model.
    """
    try:
        request = receive(delivery, deps)
        if request is None:
            request = await receive_later(delivery, deps)
        ask = resolve(delivery, request, deps.budget)
        if delivery.background:
            await acknowledge(delivery, ask, deps)
            return
        if delivery.client_document is not None and deps.responses is not None:
            await with_history(delivery, ask, deps.responses, deps.executor, deps.later)
        if ask.options is not NO_OPTIONS:
            if ask.options.prefix:
                ask.request = with_prefix(ask.request, ask.model, ask.options.prefix)
            await bind_cost(ask, deps)
        answering = (ask.model.answer if answer is None else answer)(ask)
        seconds = deps.comment_seconds
        if seconds and may_comment(delivery, ask):
            answering = with_comments(delivery, ask, answering, seconds=seconds)
        reply: Reply = await answering
        if delivery.client_document is not None:
            # The answer of the Responses API repeats the tools of its request.
            if isinstance(reply, WholeReply) and max(len(reply.body), request.came) > LARGE_BYTES:
                reply = await present_large(delivery, reply, deps.executor)
            else:
                reply = present(delivery, reply)
        if ask.options.cost:
            reply = costed(ask, reply)
        delivery.reply = reply
        if ask.gathered is not None:
            ask.let_go_of_images()
        if isinstance(reply, WholeReply):
            if delivery.exchange.started:
                raise UpstreamFailed(OTHER_FORM)
            send_whole(delivery, ask, reply, deps)
        else:
            await send_stream(delivery, ask, reply, deps)
    except asyncio.CancelledError:
        if delivery.interruption is None:
            await _fail_in_time(delivery, ShuttingDown())
            raise
        await _end_interrupted(delivery, delivery.interruption)
    except Exception as error:  # noqa: BLE001 - this is the one place where every error becomes an answer
        await _fail_unless_interrupted(delivery, error)
    finally:
        # Give up the ask, record the request, and leave: each whatever becomes of the one before.
        try:
            if delivery.ask is not None:
                delivery.ask.leave()
        finally:
            try:
                record(delivery, deps)
            finally:
                leave(delivery)
                # Its traceback holds our frames, and they the request: with the body and the connection that would be
                # left to the garbage collector.
                delivery.error = None


async def _fail_unless_interrupted(delivery: Delivery, error: Exception) -> None:
    """Tell the client, unless that is interrupted: by the client that leaves, or does not read."""
    try:
        await _fail(delivery, error)
    except asyncio.CancelledError:
        if delivery.interruption is None:
            raise
        await _end_interrupted(delivery, delivery.interruption)


async def _end_interrupted(delivery: Delivery, reason: Exception) -> None:
    """Go on behind the cancellation that interrupted the request, and tell the client why."""
    if delivery.exchange.task is not None:
        delivery.exchange.task.uncancel()
    await _fail_in_time(delivery, reason)


async def _fail_in_time(delivery: Delivery, error: Exception) -> None:
    """Tell the client, unless it does not read: then the request ends without a word, and so its connection."""
    try:
        async with asyncio.timeout(LAST_WORD_SECONDS):
            await _fail(delivery, error)
    except TimeoutError:
        return


async def _fail(delivery: Delivery, error: Exception) -> None:
    if isinstance(error, ClientGone):
        return
    relay, reply, ask = None, delivery.reply, delivery.ask
    if isinstance(reply, StreamReply) and ask is not None:
        relay = reply.relay
        # The upstream is of no use any more; stop it before the client is told.
        reply.source.close()
        if isinstance(error, StreamBroken | UpstreamError):
            ask.model.metrics.truncated.value += 1
    await send_error(delivery, to_gateway_error(error, request_id=delivery.request_id.decode()), relay)
