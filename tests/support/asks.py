"""An ask without a gateway around it."""

from typing import Any, cast

from capstan_contract.config import Task
from capstan_gateway.config.runtime import Runtime, ServedModel
from capstan_gateway.identity.principal import NOBODY, Principal
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.request import Request, Route

CHAT = Route("/v1/chat/completions", b"/chat/completions", frozenset((Task.CHAT,)), ("messages",), streams=True)
NOTHING: Any = None


def an_ask(
    model: ServedModel | None = None,
    *,
    document: dict[str, Any] | None = None,
    expires_at: float = 1e9,
    budget: MemoryBudget | None = None,
    principal: Principal = NOBODY,
) -> Ask:
    """Give an ask that nobody holds yet."""
    said = {"model": "m", "messages": [{"role": "user", "content": "hello"}]} if document is None else document
    request = Request(CHAT, said, stream=said.get("stream") is True, usage_asked=False)
    return Ask(
        request, cast(ServedModel, model), runtime=cast(Runtime, NOTHING), started=0.0, expires_at=expires_at,
        budget=MemoryBudget(1 << 30) if budget is None else budget, principal=principal,
    )  # fmt: skip
