"""Walks the stages of one request, and turns whatever goes wrong into one answer."""

import asyncio
from collections.abc import Sequence
from typing import Final

from capstan_gateway.api.errors import to_gateway_error
from capstan_gateway.errors import ClientGone, GatewayError
from capstan_gateway.pipeline.context import Reply, RequestContext, StreamReply
from capstan_gateway.pipeline.deliver import deliver, deliver_error
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.present import present
from capstan_gateway.pipeline.stages import CLOSING_STAGES, STAGES, ClosingStage, Stage
from capstan_gateway.streaming.relay import StreamBroken
from capstan_gateway.upstream.errors import UpstreamError

LAST_WORD_SECONDS: Final = 1.0
"""How long an interrupted request may take to tell its client why."""


class Run:
    """One request on its way through the stages."""

    __slots__ = ("_closing", "_context", "_deps", "_reply", "_stages")

    def __init__(
        self,
        context: RequestContext,
        deps: Deps,
        *,
        stages: Sequence[Stage] = STAGES,
        closing: Sequence[ClosingStage] = CLOSING_STAGES,
    ) -> None:
        self._context = context
        self._deps = deps
        self._stages = stages
        self._closing = closing
        self._reply: Reply | None = None

    async def serve(self) -> None:
        """Answer the request, whatever happens; raises only when the process cancels it."""
        context = self._context
        try:
            await self._answer()
        except asyncio.CancelledError:
            if context.interruption is None:
                await self._fail_in_time(GatewayError("the gateway is shutting down", status=503, code="overloaded"))
                raise
            if context.exchange.task is not None:
                context.exchange.task.uncancel()
            await self._fail_in_time(context.interruption)
        finally:
            if isinstance(self._reply, StreamReply):
                self._reply.source.close()
            for stage in self._closing:
                stage(context, self._reply, self._deps)

    async def _answer(self) -> None:
        context, deps = self._context, self._deps
        try:
            for stage in self._stages:
                self._reply = await stage(context, deps)
                if self._reply is not None:
                    break
            if self._reply is None:
                raise RuntimeError("no stage gave a reply")
            if context.native is not None:
                self._reply = present(context, self._reply)
            await deliver(context, self._reply, deps)
        except Exception as error:  # noqa: BLE001 - this is the one place where every error becomes an answer
            await self._fail(error)

    async def _fail_in_time(self, error: Exception) -> None:
        """Tell the client, unless it does not read: then the request ends without a word, and so its connection."""
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self._fail(error)
        except TimeoutError:
            return

    async def _fail(self, error: Exception) -> None:
        context = self._context
        if isinstance(error, ClientGone):
            return
        relay = None
        if isinstance(self._reply, StreamReply):
            relay = self._reply.relay
            # The upstream is of no use any more; stop it before the client is told.
            self._reply.source.close()
            if isinstance(error, StreamBroken | UpstreamError) and context.model is not None:
                context.model.metrics.truncated.value += 1
        await deliver_error(context, to_gateway_error(error, request_id=context.request_id.decode()), relay)
