"""What a model answers: in one piece, or as a stream that has begun."""

from dataclasses import dataclass

from capstan_gateway.routing.port import DispatchedResponse
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.port import Relay


@dataclass(slots=True)
class WholeReply:
    """An answer that is sent in one piece."""

    status: int
    content_type: bytes
    body: bytes
    native: bool = False
    """Whether it is in the dialect of the route; otherwise it is a chat completion, or what the engine said."""
    withheld: bool = False
    """Whether a guard has taken out of it what the model said. It is final: no other model is asked instead."""


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
