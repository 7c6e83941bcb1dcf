"""The client's side of a request: from its first byte to its record. What is asked stands in its `Ask`."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from capstan_gateway.background.port import Slot
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.dialects.clients.port import ClientTools, Dialect
from capstan_gateway.errors import ClientGone, GatewayError
from capstan_gateway.headers import Header
from capstan_gateway.identity.principal import NOBODY, Principal
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.options import NO_OPTIONS, Options
from capstan_gateway.pipeline.reply import Reply
from capstan_gateway.pipeline.request import Route
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.tokens.trim import Trimmed


class AnswerKeeper(Protocol):
    """Who keeps an answer; `stored.Keeper` is one."""

    @property
    def dialect(self) -> Dialect:
        """What writes an answer that is kept."""
        ...

    def keep(self, response: bytes) -> bool:
        """Take the whole answer as the client is given it; False when it is not kept."""
        ...


class Delivery:
    """One client that waits for an answer."""

    # NB: slots, all of them set: a default of the class is looked up the slow way each time that it is read.
    __slots__ = (
        "ask", "background", "body_at", "client_document", "client_gone", "client_tools", "content_encoding",
        "content_type", "dropped_tools", "ended", "error", "exchange", "expires_at", "first_sent_at", "interruption",
        "keeper", "model", "options", "overhead", "prefers_async", "principal", "reply", "request_id", "route",
        "runtime", "said_options", "session", "slot", "started", "status", "trace", "trimmed",
    )  # fmt: skip

    # NB: positional: names in a call of a class are a dictionary that is made and taken apart again.
    def __init__(self, exchange: Exchange, route: Route, runtime: Runtime, started: float, expires_at: float) -> None:
        self.exchange: Final = exchange
        self.route: Final = route
        self.runtime = runtime
        """What who asks may use of the one that was current when the request came."""
        self.started: Final = started
        """In the loop's time, like every other time here."""
        self.expires_at = expires_at
        """When the client is told that it took too long: first the deadline of its body, then the ask's total one."""
        self.request_id = b""
        self.principal: Principal = NOBODY
        """Who asks."""
        self.content_type: bytes | None = None
        self.content_encoding: bytes | None = None
        self.model = ""
        """What the path names, whatever the body says; "" where it is the body that does."""
        self.trace: Sequence[Header] = ()
        """Headers that name the trace."""
        self.session = ""
        """What the client calls its session."""
        self.body_at = 0.0
        """When the body was there to its end; 0 before."""
        self.client_document: dict[str, Any] | None = None
        """On a route with a dialect: what the client sent, which its answer refers to."""
        self.client_tools: ClientTools | None = None
        """Its tools, read once."""
        self.dropped_tools: Sequence[str] = ()
        """Types of tools that the model was not shown, because only a hosted API runs them."""
        self.keeper: AnswerKeeper | None = None
        """Keeps the answer; None when it is not to be kept."""
        self.options: Options = NO_OPTIONS
        """What the client asks of the gateway itself."""
        self.said_options: dict[str, Any] = {}
        """The fields in which it says that."""
        self.background = False
        """Whether it does not wait: it asks for the answer by the id that it is given."""
        self.prefers_async = False
        """Whether it would rather not wait, where that can be had."""
        self.slot: Slot | None = None
        """Where the answer is put that is to be kept, in place of the store; None: in the store."""
        self.trimmed: Trimmed | None = None
        """What the conversation was cut to, where that was asked for."""
        self.ask: Ask | None = None
        """What it asks; None until the body is read and names a model that there is."""
        self.reply: Reply | None = None
        """The answer, as the client is sent it."""
        self.overhead = 0.0
        """Seconds up to the head of the answer in which the gateway itself was at work, further attempts among them."""
        self.status = 0
        self.error: GatewayError | None = None
        self.first_sent_at = 0.0
        self.ended = False
        self.client_gone = False
        self.interruption: Exception | None = None

    @property
    def tenant(self) -> str:
        """Whose stored responses it may go on from, and whose its own is."""
        return self.principal.tenant

    def comes_from(self, principal: Principal) -> None:
        """Take note of who asks: what is not theirs to use is not there."""
        self.principal = principal
        self.runtime = self.runtime.seen_by(principal)

    def interrupt(self, reason: Exception) -> None:
        """Stop the delivery at whatever it waits for; `reason` is raised there in the end."""
        if self.ended or self.interruption is not None:
            return
        self.interruption = reason
        self.client_gone = isinstance(reason, ClientGone)
        if self.exchange.task is not None:
            self.exchange.task.cancel()

    def leave(self) -> None:
        """The client has gone: it waits for the answer no more."""
        self.interrupt(ClientGone())
