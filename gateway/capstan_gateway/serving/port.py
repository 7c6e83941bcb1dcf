"""The seams of one connection: what its reader, its exchanges and the connection itself ask of each other."""

from collections.abc import Callable, Sequence
from typing import Protocol

from capstan_gateway.errors import GatewayError
from capstan_gateway.headers import Header
from capstan_gateway.memory import Share
from capstan_gateway.serving.wire import ClientWire


class Receiver(Protocol):
    """Who takes the body of one request."""

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        ...

    def on_body_complete(self) -> None:
        """Take note that this was all of it."""
        ...


class Sink(Protocol):
    """What the requests of a connection are given to."""

    @property
    def answering(self) -> bool:
        """Whether a request is being answered."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether requests wait for those before them."""
        ...

    def on_head(
        self,
        method: bytes,
        target: bytes,
        headers: list[Header],
        *,
        length: int | None,
        modern: bool,
        keep_alive: bool,
        expects_continue: bool,
    ) -> Receiver:
        """Serve a request, or let it wait for those before it; give who takes its body, which may be on its way.

        `length` is that of the body, None when it is not told; `modern` says that the request is of HTTP/1.1.
        """
        ...

    def on_refused(self, error: GatewayError, headers: Sequence[Header] = (), target: bytes = b"") -> None:
        """What comes is no request, or none that could be served; nothing more will be understood.

        `headers` are those of it that were read, `target` is what was read of its target.
        """
        ...

    def on_half_head(self, size: int) -> bool:
        """So many bytes of a head have come that is not complete; False when they are not to be kept."""
        ...


class Owner(Protocol):
    """What an exchange needs of its connection."""

    wire: ClientWire
    date_line: Callable[[], bytes]

    def share(self) -> Share:
        """Open an account for what the request holds."""
        ...

    def resume_reading(self) -> None:
        """Read again, if nothing speaks against it."""
        ...

    def on_awaiting_body(self) -> None:
        """Take note that a body is awaited: it has a time."""
        ...

    def on_body_arrived(self) -> None:
        """Take note that it is there."""
        ...

    def on_answered(self, keep_alive: bool) -> None:
        """Take note that a request has its whole answer; `keep_alive`: and that another one may follow it."""
        ...

    def on_abandoned(self) -> None:
        """Take note that a request will not have a whole answer."""
        ...
