"""What a request has cost in the end."""

from typing import Any, cast

from capstan_gateway.config.runtime import Runtime, ServedModel
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.request import Request, Route

ROUTE = Route("/v1/chat/completions", b"/chat/completions", frozenset())
NOTHING: Any = None


def test_calls_that_were_paid_count_without_an_answer() -> None:
    """A request that fails, or whose client leaves, after calls that were settled has cost what they cost."""
    request = Request(ROUTE, {}, stream=False, usage_asked=False)
    ask = Ask(request, cast(ServedModel, NOTHING), runtime=cast(Runtime, NOTHING), started=0.0, expires_at=1.0)
    ask.hold()
    ask.spent_dollars = 0.25
    ask.leave()
    assert ask.price_dollars == 0.25
