"""What a request has cost in the end."""

from typing import cast

from capstan_gateway.config.runtime import Runtime
from capstan_gateway.pipeline.context import RequestContext, Route
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.settle import settle_usage
from capstan_gateway.serving.exchange import Exchange


def test_calls_that_were_paid_count_without_an_answer() -> None:
    """A request that fails, or whose client leaves, after calls that were settled has cost what they cost."""
    route = Route("/v1/chat/completions", b"/chat/completions", frozenset())
    context = RequestContext(
        cast(Exchange, None), route=route, runtime=cast(Runtime, None), started=0.0, expires_at=1.0
    )
    context.spent_dollars = 0.25
    settle_usage(context, None, cast(Deps, None))
    assert context.price_dollars == 0.25
