"""What the pipeline needs of routing: hand over a request, get a response that has begun.

    endpoints = EndpointSet(registry)                      # one per model, kept across configs; see .replace()
    dispatcher = Dispatcher(client, budget=..., ...)       # one per process (routing.dispatch)

    with closing(await dispatcher.dispatch(call)) as answer:  # its end releases the slot and aborts what is left
        answer.status, answer.headers                      # any status: what the last endpoint tried said
        while piece := await answer.receive(): ...         # or: answer.whole, when that was asked for

Nothing of an answer has reached the client when `dispatch` returns, and its first token is there, so everything that
can be retried has been. Cancelling the task, at any wait, aborts the upstream.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from capstan_contract.config import ModelQueue
from capstan_contract.queue.names import PriorityClass
from capstan_gateway.headers import Header
from capstan_gateway.memory import Share
from capstan_gateway.routing.attempt import Attempt
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.held_blocks import PromptBlocks
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.upstream.port import Endpoint, Headers

MAX_NOTES: Final = 20
"""Attempts and words about them that are kept of one call. What was sent is kept always: it is bounded anyway."""


class Opening(Protocol):
    """Reads the beginning of one answer, up to its first token: only the dialect knows what that is.

    Up to there the first-token deadline is in force, and a second endpoint may be sooner; comments, pings and frames
    without a token change nothing.
    """

    def feed(self, data: bytes) -> bool:
        """Take the next bytes, b"" for the end of the body; give whether a token is there, or none will come."""
        ...

    @property
    def fault(self) -> str | None:
        """One word for what makes this no answer, for which its endpoint is to blame; None when nothing does."""
        ...


@dataclass(frozen=True, slots=True)
class Queueing:
    """How a call may wait in the queue of its model."""

    model: str
    """`namespace/name` of the LLMModel."""
    rules: ModelQueue
    name: str
    """Its served name, for metrics."""
    request_id: str
    tenant: str
    """A name that tells nothing: entries can be read in Redis."""
    priority: PriorityClass
    weight: float
    tokens: Callable[[], int]
    """Estimates what it will take of an engine."""
    apart: bool
    """Whether it is better sent at once: the gateway asks on its own behalf, or it must not be sent twice."""
    may_wait: bool
    """Whether nobody else answers in place of a model that has no endpoint."""


@dataclass(slots=True)
class Call:
    """One request to a model, ready to be sent to any of its endpoints."""

    # NB: what is told of every call can be told by place: names in a call of a class are a dictionary.
    endpoints: EndpointSet
    path: bytes
    """Appended to the endpoint's base path: b"/chat/completions"."""
    expires_at: float
    """Total deadline, in the loop's time. The only one of an answer in one piece, which has no first token."""
    body: bytes = b""
    stats: "CallStats" = field(default_factory=lambda: CallStats())
    # NB: not for keywords alone: of those each default is looked up in a dictionary.
    method: bytes = b"POST"
    headers: Headers = ()
    headers_of: Callable[[Endpoint], Headers | None] | None = None
    """In place of `headers`, for endpoints that want different ones; an endpoint that gets None is not used."""
    affinity: bytes | None = None
    """Requests with the same key prefer the same endpoint; see routing.affinity."""
    prompt: PromptBlocks | None = None
    """The blocks of its prompt, where endpoints tell which they hold: it prefers those; see routing.least_work."""
    repeatable: bool = True
    """Whether it may be sent twice. False for what has side effects: sent once, it is neither retried nor hedged."""
    first_token_seconds: float = 120.0
    """Of a stream, from before it is sent to the first token."""
    idle_seconds: float = 60.0
    """Of a stream behind its first token, between two pieces."""
    opening: Callable[[int, Sequence[Header]], Opening | None] | None = None
    """Makes what reads up to the first token of an answer with this status and these headers; None: there is nothing to
    read, and the first piece of the body will do. Made anew for each attempt."""
    wait_seconds: float = 0.0
    """How long to wait for an endpoint when there is none; 0 for hosted APIs, which are there or are not."""
    patient: bool = False
    """Whether it waits also while no replica comes up: as long as it has time, something may be done about that."""
    whole_bytes: int = 0
    """Not 0: read the whole body, up to so many bytes, before giving the answer, so that one that breaks off can be
    retried elsewhere. For answers that are sent in one piece."""
    memory: Callable[[], Share] | None = None
    """Opens, or gives, the share of the process' budget from which a whole answer is taken, or the beginning of a
    stream (then it opens one for each attempt); None: they are not counted."""
    avoid: tuple[Endpoint, ...] = ()
    """Endpoints that are not asked (again) as long as there are others."""
    hosted: bool = False
    """Whether somebody charges for each answer."""
    full: frozenset[EndpointState] = frozenset()
    """Endpoints where it would wait: not asked first. There is another one."""
    queueing: Queueing | None = None
    """None: it is sent directly, as its model has no queue."""


class CallStats:
    """What happened to a call; the caller reads it afterwards, also when `dispatch` raised or was cancelled."""

    __slots__ = (
        "attempts", "counted", "failures", "first_byte", "hedges", "queued", "read", "retries", "spent", "tried",
        "waited",
    )  # fmt: skip

    def __init__(self) -> None:
        self.attempts = 0
        self.counted: float | None = None
        """Seconds that engines were asked for how many tokens the prompt has; None: none was."""
        self.retries = 0
        """Attempts after the first one."""
        self.waited = 0.0
        """Seconds spent without an endpoint to send to."""
        # NB: a tuple: of most calls it has one entry, and a list would be two blocks of memory more.
        self.tried: tuple[Attempt, ...] = ()
        """The attempts, in the order in which they began: those that answered, failed, lost and were given up. All that
        were sent, and of those that never were at most 20."""
        self.first_byte = 0.0
        """Seconds from the start of the last attempt to its first token; of an answer without one to its first piece of
        body (of one that is there at once, or empty: to its end). Of two at a time, from the start of the first one."""
        self.read = 0.0
        """With `whole_bytes`: seconds from that first piece to the end of the body."""
        self.hedges: tuple[str, ...] = ()
        """How each second attempt that was sent on a late first token ended; see `race.HedgeOutcome`."""
        self.failures: list[str] = []
        """One word per failed attempt: the error's class, or the status. At most 20."""
        self.queued: tuple[int, int] | None = None
        """Of an answer that was waited for in the queue: how many were in front of it, and how many milliseconds it was
        expected to wait, -1 where nobody knew."""
        self.spent = False
        """Whether a request that is not repeatable was sent: nobody else is asked then, no other model either."""

    def end(self, attempt: Attempt, word: str) -> None:
        """Take note that an attempt failed, for this reason."""
        if not attempt.sent and len(self.tried) > MAX_NOTES:
            self.tried = tuple(other for other in self.tried if other is not attempt)
        self.note(word)

    def note(self, word: str) -> None:
        """Keep a word about what went wrong."""
        if len(self.failures) < MAX_NOTES:
            self.failures.append(word)


class DispatchedResponse(Protocol):
    """A response that has begun, and the slot that it holds. Close it exactly when done; twice is harmless."""

    status: int
    headers: list[tuple[bytes, bytes]]
    whole: bytes | None
    """The whole body, if it was asked for and the status is not an error."""

    @property
    def endpoint(self) -> Endpoint:
        """Who answered."""
        ...

    @property
    def opening(self) -> Opening | None:
        """What has read its beginning, if the call asked for that; `receive` goes on behind it."""
        ...

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

    def finish(self) -> None:
        """Take the answer for whole, though its body has no end yet: its last frame was there."""
        ...

    def blame(self, word: str) -> None:
        """Count the answer as the endpoint's failure, for what only its reader can see: no finish reason, not JSON."""
        ...

    def close(self) -> None:
        """Release the slot, and abort the upstream if the body is not over."""
        ...


class SentResponse(DispatchedResponse, Protocol):
    """One that an endpoint has begun."""

    @property
    def attempt(self) -> Attempt:
        """Whose answer it is; among the `CallStats.tried` of its call."""
        ...


class DispatchPort(Protocol):
    """What `routing.dispatch.Dispatcher` promises."""

    async def dispatch(self, call: Call) -> SentResponse:
        """Pick, send, and retry on other endpoints until an answer has begun.

        Raises RoutingError when there was no endpoint, UpstreamError when the last one tried failed without a status.
        """
        ...

    def again(self, call: Call, answer: DispatchedResponse, error: BaseException) -> bool:
        """End an answer that began and turned out to be none; say whether to dispatch once more.

        `error` is what reading it raised. If there may be another attempt the retry budget has paid for it, and the
        endpoint of this one is left out.
        """
        ...

    def pay_for_fallback(self) -> bool:
        """Whether the retry budget has room for asking another model; takes from it when it has."""
        ...
