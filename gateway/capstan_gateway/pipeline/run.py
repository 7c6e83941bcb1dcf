"""Walks the stages of one request, and turns whatever goes wrong into one answer."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from capstan_gateway.errors import ClientGone, GatewayError
from capstan_gateway.pipeline.context import Reply, RequestContext, StreamReply, WholeReply
from capstan_gateway.pipeline.deliver import deliver_error, deliver_stream, deliver_whole
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.failures import to_gateway_error
from capstan_gateway.pipeline.present import present
from capstan_gateway.pipeline.stages import CLOSING_STAGES, STAGES, ClosingStage, Stage
from capstan_gateway.streaming.relay import StreamBroken
from capstan_gateway.upstream.errors import UpstreamError

LAST_WORD_SECONDS: Final = 1.0
"""How long an interrupted request may take to tell its client why."""


async def serve(
    context: RequestContext,
    deps: Deps,
    leave: Callable[[RequestContext], None],
    *,
    stages: Sequence[Stage] = STAGES,
    closing: Sequence[ClosingStage] = CLOSING_STAGES,
) -> None:
    """Answer the request, whatever happens, and `leave` at the end; raises only when the process cancels it."""
    try:
        for stage in stages:
            waits = stage(context, deps)
            if waits is not None:
                context.reply = await waits
                if context.reply is not None:
                    break
        given = _presented(context)
        if isinstance(given, WholeReply):
            deliver_whole(context, given, deps)
        else:
            await deliver_stream(context, given, deps)
    except asyncio.CancelledError:
        if context.interruption is None:
            await _fail_in_time(context, GatewayError("the gateway is shutting down", status=503, code="overloaded"))
            raise
        await _end_interrupted(context, context.interruption)
    except Exception as error:  # noqa: BLE001 - this is the one place where every error becomes an answer
        await _fail_unless_interrupted(context, error)
    finally:
        reply = context.reply
        if isinstance(reply, StreamReply):
            reply.source.close()
        try:
            for close in closing:
                close(context, reply, deps)
        finally:
            leave(context)
        if context.error is not None:
            # Its traceback holds our frames, and they the context: with the body and the connection that would be left
            # to the garbage collector.
            context.error = None


def _presented(context: RequestContext) -> Reply:
    """Give the reply in the dialect of the client."""
    if context.reply is None:
        raise RuntimeError("no stage gave a reply")
    if context.native is not None:
        context.reply = present(context, context.reply)
    return context.reply


async def _fail_unless_interrupted(context: RequestContext, error: Exception) -> None:
    """Tell the client, unless that is interrupted: by the client that leaves, or does not read."""
    try:
        await _fail(context, error)
    except asyncio.CancelledError:
        if context.interruption is None:
            raise
        await _end_interrupted(context, context.interruption)


async def _end_interrupted(context: RequestContext, reason: Exception) -> None:
    """Go on behind the cancellation that interrupted the request, and tell the client why."""
    if context.exchange.task is not None:
        context.exchange.task.uncancel()
    await _fail_in_time(context, reason)


async def _fail_in_time(context: RequestContext, error: Exception) -> None:
    """Tell the client, unless it does not read: then the request ends without a word, and so its connection."""
    try:
        async with asyncio.timeout(LAST_WORD_SECONDS):
            await _fail(context, error)
    except TimeoutError:
        return


async def _fail(context: RequestContext, error: Exception) -> None:
    if isinstance(error, ClientGone):
        return
    relay, reply = None, context.reply
    if isinstance(reply, StreamReply):
        relay = reply.relay
        # The upstream is of no use any more; stop it before the client is told.
        reply.source.close()
        if isinstance(error, StreamBroken | UpstreamError) and context.model is not None:
            context.model.metrics.truncated.value += 1
    await deliver_error(context, to_gateway_error(error, request_id=context.request_id.decode()), relay)
