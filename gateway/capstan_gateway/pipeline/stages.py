"""The order in which a request is served: the one list.

    authenticate -> parse -> resolve model -> reserve limits and budget -> guard input -> look up cache
      -> route and dispatch (direct or queued; retries, fallback, cascade) -> guard output
      -> settle usage -> store in cache -> sample for evaluation -> record

A stage gives None to continue, or what is awaited for that or for a Reply (one that need not wait costs no coroutine),
or raises a domain error; `run.py` maps errors. Closing stages run exactly once on every path, also when the client has
gone away; they do not wait for anything.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from capstan_gateway.pipeline.answer import answer
from capstan_gateway.pipeline.context import Reply, RequestContext
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.parse import parse
from capstan_gateway.pipeline.resolve import resolve_model
from capstan_gateway.pipeline.settle import record, settle_usage

Stage = Callable[[RequestContext, Deps], Awaitable[Reply | None] | None]
ClosingStage = Callable[[RequestContext, Reply | None, Deps], None]

STAGES: Final[tuple[Stage, ...]] = (
    parse,
    resolve_model,
    answer,
)

CLOSING_STAGES: Final[tuple[ClosingStage, ...]] = (
    settle_usage,
    record,
)
