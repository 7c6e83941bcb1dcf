"""What the pipeline needs of routing: hand over a request, get a response that has begun.

    endpoints = EndpointSet(registry)                      # one per model, kept across configs; see .replace()
    dispatcher = Dispatcher(client, budget=..., ...)       # one per process (routing.dispatch)

    async with await dispatcher.dispatch(call) as answer:  # leaving the block releases the slot and aborts what is left
        answer.status, answer.headers                      # any status: what the last endpoint tried said
        while piece := await answer.receive(): ...         # or: answer.whole, when that was asked for

Nothing of an answer has reached the client when `dispatch` returns, and its first piece is there, so everything that
can be retried has been. Cancelling the task, at any wait, aborts the upstream.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from capstan_gateway.memory import Share
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.upstream.port import Endpoint, Headers


@dataclass(slots=True, kw_only=True)
class Call:
    """One request to a model, ready to be sent to any of its endpoints."""

    endpoints: EndpointSet
    method: bytes = b"POST"
    path: bytes
    """Appended to the endpoint's base path: b"/chat/completions"."""
    headers: Headers = ()
    headers_of: Callable[[Endpoint], Headers | None] | None = None
    """In place of `headers`, for endpoints that want different ones; an endpoint that gets None is not used."""
    body: bytes = b""
    affinity: bytes | None = None
    """Requests with the same key prefer the same endpoint; see routing.affinity."""
    repeatable: bool = True
    """Whether it may be sent twice. False for what has side effects: sent once, it is neither retried nor hedged."""
    expires_at: float
    """Total deadline, in the loop's time."""
    first_token_seconds: float = 120.0
    idle_seconds: float = 60.0
    wait_seconds: float = 0.0
    """How long to wait for an endpoint when there is none; 0 for hosted APIs, which are there or are not."""
    whole_bytes: int = 0
    """Not 0: read the whole body, up to so many bytes, before giving the answer, so that one that breaks off can be
    retried elsewhere. For answers that are sent in one piece."""
    memory: Callable[[], Share] | None = None
    """Opens, or gives, the share of the process' budget from which a whole answer is taken; None: it is not counted."""
    avoid: tuple[Endpoint, ...] = ()
    """Endpoints that are not asked (again) as long as there are others."""
    hosted: bool = False
    """Whether somebody charges for each answer."""
    stats: "CallStats" = field(default_factory=lambda: CallStats())


@dataclass(slots=True)
class Tried:
    """One attempt, for whoever reckons what it has cost."""

    may_have_worked: bool = False
    """Whether an engine may have computed for it, and somebody may charge for that: it was sent, and not refused."""


@dataclass(slots=True)
class CallStats:
    """What happened to a call; the caller reads it afterwards, also when `dispatch` raised or was cancelled."""

    attempts: int = 0
    retries: int = 0
    """Attempts after the first one."""
    tried: list[Tried] = field(default_factory=list)
    """The attempts, in the order in which they began; hedges are among them."""
    waited: float = 0.0
    """Seconds spent without an endpoint to send to."""
    first_byte: float = 0.0
    """Seconds from the start of the last attempt to its first piece of body (of an empty body: to its end). Of two at a
    time, from the start of the first one."""
    read: float = 0.0
    """With `whole_bytes`: seconds from that first piece to the end of the body."""
    hedges: tuple[str, ...] = ()
    """How each second attempt that was sent on a late first token ended; see `race.HedgeOutcome`."""
    failures: list[str] = field(default_factory=list)
    """One word per failed attempt: the error's class, or the status. At most 20."""


class DispatchedResponse(Protocol):
    """A response that has begun, and the slot that it holds. Close it exactly when done; twice is harmless."""

    endpoint: Endpoint
    status: int
    headers: list[tuple[bytes, bytes]]
    whole: bytes | None
    """The whole body, if it was asked for and the status is not an error."""

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end (it may still wait to be read)."""
        ...

    async def receive(self) -> bytes:
        """Give all that has arrived since the last call; b"" when the body is over. Raises UpstreamError."""
        ...

    async def read(self, max_bytes: int) -> bytes:
        """Give the rest of the body; more than `max_bytes` raises BodyTooLarge."""
        ...

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the first `max_bytes` of the rest of the body, or all of it if that is less; the rest is aborted.

        What breaks off or stalls is given as far as it came. Raises DeadlineExceeded when the total deadline passes.
        """
        ...

    def blame(self, word: str) -> None:
        """Count the answer as the endpoint's failure, for what only its reader can see: no finish reason, not JSON."""
        ...

    def close(self) -> None:
        """Release the slot, and abort the upstream if the body is not over."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class DispatchPort(Protocol):
    """What `routing.dispatch.Dispatcher` promises."""

    async def dispatch(self, call: Call) -> DispatchedResponse:
        """Pick, send, and retry on other endpoints until an answer has begun.

        Raises RoutingError when there was no endpoint, UpstreamError when the last one tried failed without a status.
        """
        ...

    def again(self, call: Call, answer: DispatchedResponse, why: str) -> bool:
        """Whether to dispatch once more because this answer, which began well, turned out to be none.

        If so the retry budget has paid for it, and its endpoint is left out.
        """
        ...
