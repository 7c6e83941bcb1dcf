"""What the worker needs of an engine: one small protocol, so that nothing else knows which engine it is.

Implementations: `http.HttpEngine` (any OpenAI-compatible server at a URL) and `inprocess.AsgiEngine` (vLLM in this
process).
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class EngineRequest:
    """One request for an engine's OpenAI API."""

    id: str
    """What `abort` is given; unique among the requests in flight."""
    path: str
    """Such as /v1/chat/completions."""
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Head:
    """How an answer begins."""

    status: int
    content_type: str


@dataclass
class EngineAnswer:
    """An answer that is coming in: its head, then its body piece by piece as the engine sends it."""

    head: Head
    body: AsyncIterator[bytes]
    request_id: str = field(default="")


class Engine(Protocol):
    """An engine with an OpenAI-compatible API. Every method raises EngineError, or EngineUnreachable, in its place."""

    async def ready(self) -> bool:
        """Say whether the model is loaded and requests are answered."""

    async def generate(self, request: EngineRequest) -> EngineAnswer:
        """Send a request and return when the answer begins. Reading the body to its end, or `abort`, ends it."""

    async def abort(self, request_id: str) -> None:
        """End a request early so that the engine stops working on it; unknown ids are ignored."""

    async def in_flight(self) -> int:
        """Count the requests that the engine has and has not answered completely, whoever sent them."""

    async def room(self) -> int | None:
        """Say how many more requests would run at once instead of waiting; None when the engine does not tell."""

    async def metrics(self) -> bytes:
        """Give the engine's metrics in Prometheus' text format; nothing when it has none."""
