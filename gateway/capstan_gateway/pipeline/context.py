"""One request, from its first byte to its record."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from capstan_contract.config import Task
from capstan_gateway.config.runtime import Runtime, ServedModel
from capstan_gateway.dialects.clients.port import Dialect
from capstan_gateway.errors import ClientGone, GatewayError, InvalidRequest
from capstan_gateway.headers import Header
from capstan_gateway.routing.dispatch import MAX_NOTES
from capstan_gateway.routing.port import CallStats, DispatchedResponse
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import StreamBroken
from capstan_gateway.streaming.usage import Usage


@dataclass(frozen=True, slots=True)
class Route:
    """An inference route."""

    path: str
    upstream_path: bytes
    """Appended to an endpoint's base path."""
    tasks: frozenset[Task]
    """Tasks of the models that can answer here."""
    required: tuple[str, ...] = ()
    """Fields that a body must have beside `model`."""
    streams: bool = False
    """Whether `stream: true` has a meaning here."""
    dialect: Dialect | None = None
    """What clients speak here; None: what the engines speak."""


@dataclass(frozen=True, slots=True)
class NativeRequest:
    """A request as it came, in the dialect of its route."""

    document: dict[str, Any]
    body: bytes


@dataclass(slots=True)
class WholeReply:
    """An answer that is sent in one piece."""

    status: int
    content_type: bytes
    body: bytes
    native: bool = False
    """Whether it is in the dialect of the route; otherwise it is a chat completion, or what the engine said."""


@dataclass(slots=True)
class StreamReply:
    """An answer that has begun: its first frames, and where the rest comes from."""

    first: bytes
    source: DispatchedResponse
    relay: Relay
    native: bool = False
    """Whether it is in the dialect of the route."""
    broken: StreamBroken | None = None
    """Set when it broke already, behind what is in `first`."""


Reply = WholeReply | StreamReply
_NO_DOCUMENT: Final[dict[str, Any]] = {}
"""Until the body is read. Nobody writes into it."""


class RequestContext:
    """What the stages of one request share. It keeps the Runtime that it began with to its end."""

    # NB: slots, all of them set: a default of the class is looked up the slow way each time that it is read.
    __slots__ = (
        "answered_by", "begun", "body", "body_at", "body_complete", "client_gone", "content_encoding",
        "content_length", "content_type", "document", "ended", "error", "exchange", "expires_at", "first_sent_at",
        "interruption", "model", "model_name", "native", "needs_chat", "overhead", "price_dollars", "reply",
        "request_id", "route", "route_note", "runtime", "session", "spent_dollars", "started", "stats", "status",
        "stream", "trace", "untranslatable", "usage", "usage_asked", "usage_settled",
    )  # fmt: skip

    def __init__(
        self, exchange: Exchange, *, route: Route, runtime: Runtime, started: float, expires_at: float
    ) -> None:
        self.exchange = exchange
        self.route = route
        self.runtime = runtime
        self.started = started
        """In the loop's time, like every other time here."""
        self.expires_at = expires_at
        """When the request is cut off: first the deadline of its body, then the model's total one."""
        self.request_id = b""
        self.content_type: bytes | None = None
        self.content_length: bytes | None = None
        self.content_encoding: bytes | None = None
        self.trace: Sequence[Header] = ()
        """Headers that name the trace."""
        self.session = ""
        """What the client calls its session: requests of one session prefer one endpoint."""
        self.body = b""
        self.body_complete = False
        """Whether the body was read to its end."""
        self.body_at = started
        self.document: dict[str, Any] = _NO_DOCUMENT
        """The request as the engines understand it, whatever the client speaks."""
        self.native: NativeRequest | None = None
        """On a route with a dialect: what the client sent."""
        self.untranslatable: InvalidRequest | None = None
        """Why `document` does not hold the whole request: only a model that speaks the client's dialect can answer."""
        self.needs_chat = False
        """Set by a stage that must read the answer: no model is spoken to in the client's own dialect then."""
        self.model_name = ""
        """The name that the client used."""
        self.model: ServedModel | None = None
        self.answered_by: ServedModel | None = None
        """The model that answered: another one after a fallback."""
        self.stream = False
        self.usage_asked = False
        self.stats = CallStats()
        self.usage: Usage | None = None
        """Of the call that answered."""
        self.usage_settled = False
        """Whether `usage` is counted already: the answer was whole before it was chosen."""
        self.spent_dollars = 0.0
        """Price of the calls that are settled already, beside the one that answers: those of a cascade."""
        self.price_dollars = 0.0
        """Price of the whole request, once it is settled."""
        self.route_note = b""
        """How a virtual model came to its answer, for a header."""
        self.overhead = 0.0
        """Seconds up to the head of the answer in which the gateway itself was at work, further attempts among them."""
        self.reply: Reply | None = None
        self.status = 0
        self.error: GatewayError | None = None
        self.begun = False
        """Whether the head of the answer was sent."""
        self.first_sent_at = 0.0
        self.ended = False
        self.client_gone = False
        self.interruption: Exception | None = None

    def fork(self, *, document: dict[str, Any] | None = None, route: Route | None = None) -> "RequestContext":
        """Give the context of one call within this request: same client and deadline, with an answer of its own.

        With a `document` it is another request, for an answer that the gateway reads itself.
        """
        child = RequestContext(
            self.exchange, route=route or self.route, runtime=self.runtime,
            started=self.started, expires_at=self.expires_at,
        )  # fmt: skip
        child.request_id, child.trace, child.session = self.request_id, self.trace, self.session
        child.body_complete, child.body_at = True, self.body_at
        child.model_name, child.model = self.model_name, self.model
        child.native = None if route is not None else self.native
        if document is not None:
            child.document, child.body, child.needs_chat = document, orjson.dumps(document), True
            return child
        child.document, child.body, child.needs_chat = self.document, self.body, self.needs_chat
        child.stream, child.usage_asked, child.untranslatable = self.stream, self.usage_asked, self.untranslatable
        return child

    def join(self, child: "RequestContext", *, answers: bool) -> None:
        """Take over what a call within this request has done; with `answers` it is the one whose answer is given."""
        self.stats.attempts += child.stats.attempts
        self.stats.retries += child.stats.retries
        self.stats.hedges += child.stats.hedges
        self.stats.failures.extend(child.stats.failures[: max(0, MAX_NOTES - len(self.stats.failures))])
        if not answers:
            self.stats.waited += child.stats.first_byte + child.stats.waited + child.stats.read
            return
        self.stats.waited += child.stats.waited
        self.stats.first_byte, self.stats.read = child.stats.first_byte, child.stats.read
        self.usage, self.answered_by = child.usage, child.answered_by

    def interrupt(self, reason: Exception) -> None:
        """Stop the request at whatever it waits for; `reason` is raised there in the end."""
        if self.ended or self.interruption is not None:
            return
        self.interruption = reason
        self.client_gone = isinstance(reason, ClientGone)
        if self.exchange.task is not None:
            self.exchange.task.cancel()

    def leave(self) -> None:
        """The client has gone: nobody waits for the answer any more."""
        self.interrupt(ClientGone())

    @property
    def served(self) -> ServedModel:
        """The model, for stages behind the one that resolves it."""
        if self.model is None:
            raise RuntimeError("the model is not resolved yet")
        return self.model


def wall_seconds() -> int:
    """Give the time that answers are stamped with."""
    return int(time.time())
