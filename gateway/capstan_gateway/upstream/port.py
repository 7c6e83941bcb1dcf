"""The port through which everything else calls an upstream; `http1.Http1Client` is what stands behind it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from capstan_gateway.headers import Header
from capstan_gateway.memory import Share

Headers = bytes | Sequence[Header]
"""Headers in order; or already written by `headers.header_lines`, which spares that for each request."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address that answers for a model (or another service, such as the Kubernetes API)."""

    id: str
    """Stable and unique for the pair of model and address: the key of all state about the endpoint."""
    host: str
    """A name or an IP address (IPv6 without brackets)."""
    port: int
    scheme: Literal["http", "https"] = "http"
    base_path: bytes = b""
    """Put before the path of every request: b"/v1"; no slash at its end."""
    server_name: str | None = None
    """Name to verify the certificate against, when it is not `host`."""
    tls: str = ""
    """Which of the client's TLS contexts to use, by the name that it was given; empty: the system's authorities."""
    tier: int = 0
    """Endpoints of a lower tier come first; the next ones while those fail or are full."""
    weight: int | None = None
    """Share among endpoints of one tier, above 0; None: what they get is decided by their load."""
    credential: str | None = None
    """Name of the file with the key that this endpoint wants."""
    template: str = ""
    """The ReplicaSet whose pod it is: two of one run the same; empty where nobody knows."""
    worker: "Endpoint | None" = None
    """Who tells which blocks of prompts its engine holds (`capstan_contract.kv_events`); None: nobody does."""


class Sending(Protocol):
    """Whoever must know whether a request is on its way."""

    sent: bool
    """Set to True as soon as it is."""


class UpstreamResponse(Protocol):
    """A response whose head is there and whose body comes piece by piece.

    Whoever holds one reads it to its end or calls `abort`; then the connection is free again. Deadlines are those given
    to `send`: first byte up to the first piece, idle between pieces, unless `awaits_token` says otherwise; total over
    everything.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body_began: bool
    """Whether a piece of the body has come."""
    awaits_token: bool | None
    """Set by a reader who knows which deadline is in force: True, the one for the first byte, for it waits for more
    than a first piece; False, the one between pieces. None: the one for the first byte up to the first piece."""
    idle_seconds: float
    """The deadline between pieces, as it was given."""

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end (it may still wait to be read)."""
        ...

    def silent_for(self, now: float) -> float:
        """Give the seconds for which its reader has waited for the next piece by now; 0.0 when it does not wait."""
        ...

    async def wait_body(self) -> None:
        """Return when a piece of the body can be read without waiting, or the body is over."""
        ...

    async def receive(self) -> bytes:
        """Give all that has arrived since the last call, waiting if that is nothing; b"" when the body is over."""
        ...

    def read_now(self, max_bytes: int) -> bytes | None:
        """Give the rest of the body if all of it is there in one small piece, as most are; else None, and it stays."""
        ...

    async def read(self, max_bytes: int, memory: Callable[[], Share] | None = None) -> bytes:
        """Give the rest of the body; more than `max_bytes` raises BodyTooLarge and aborts.

        A large one is taken from the share that `memory` gives; NoMemory, and it is aborted, when there is no room.
        """
        ...

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the first `max_bytes` of the rest of the body, or all of it if that is less; the rest is aborted.

        What breaks off or stalls is given as far as it came. Raises DeadlineExceeded when the total deadline passes.
        """
        ...

    def abort(self) -> None:
        """Close the connection now, so that the engine stops; harmless when the body is over, and when called twice."""
        ...


class UpstreamClient(Protocol):
    """Sends requests and keeps connections alive between them."""

    async def send(
        self,
        endpoint: Endpoint,
        *,
        method: bytes,
        path: bytes,
        headers: Headers = (),
        body: bytes = b"",
        connect_timeout: float = 5.0,
        first_byte_timeout: float = 120.0,
        idle_timeout: float = 60.0,
        expires_at: float = math.inf,
        repeatable: bool = False,
        sending: Sending | None = None,
    ) -> UpstreamResponse:
        """Send a request and return as soon as the head of its response is there.

        `host`, `content-length` and `accept-encoding: identity` are added; the caller gives every other header.
        `expires_at` is in the loop's time. `repeatable` says that a request whose reused connection dies before any
        byte of a response may be sent once more; GET and HEAD always are. `sending` is told when the request is on its
        way, so that whoever is cancelled knows. Cancelling closes the connection at once. Raises UpstreamError.
        """
        ...

    def close_idle(self, endpoint_id: str) -> None:
        """Close the connections to an endpoint that are not in use: it is going away."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
