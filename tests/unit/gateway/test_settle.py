"""What a request has cost in the end."""

import asyncio
from typing import cast

from capstan_gateway.config.runtime import Runtime
from capstan_gateway.pipeline.context import Message, RequestContext, Route
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.settle import settle_usage


async def _receive() -> Message:
    return {"type": "http.disconnect"}


async def _send(_: Message) -> None:
    """Nothing is sent here."""


async def test_calls_that_were_paid_count_without_an_answer() -> None:
    """A request that fails, or whose client leaves, after calls that were settled has cost what they cost."""
    task = asyncio.current_task()
    assert task is not None
    route = Route("/v1/chat/completions", b"/chat/completions", frozenset())
    context = RequestContext(
        {}, _receive, _send, route=route, runtime=cast(Runtime, None), task=task, started=0.0, expires_at=1.0
    )
    context.spent_dollars = 0.25
    settle_usage(context, None, cast(Deps, None))
    assert context.price_dollars == 0.25
