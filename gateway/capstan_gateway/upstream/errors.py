"""What can go wrong between the gateway and an upstream.

    UpstreamError
    ├── ConnectFailed          nothing was sent: no connection (refused, unreachable, DNS, TLS)
    │   ├── TooManyConnections nothing was sent: the endpoint's connection limit is reached
    │   └── AddressNotAllowed  nothing was sent: the host has an address that the client must not ask
    ├── ConnectionLost         sent, and the connection ended before the whole response head was there
    ├── ProtocolError          what came back is not HTTP/1.1, or is larger than a limit
    ├── BodyBroken             the head came, the body did not come to its end
    ├── BodyTooLarge           `read(max_bytes)` would have passed its limit
    │   └── NoMemory           the process has no room for it now
    └── DeadlineExceeded       a wait took too long; `kind` says which one

Messages hold the endpoint's id and the kind of failure, never a header or a byte of a body, so that they can be logged.
`sent` says whether the upstream may have begun to work on the request. Repeating a request that was not sent is always
safe; one that was sent may be repeated only where the request itself is safe to repeat (inference before its first
byte is).
"""

from enum import StrEnum


class DeadlineKind(StrEnum):
    """Which wait took too long."""

    CONNECT = "connect"
    FIRST_TOKEN = "first_token"  # noqa: S105 - a kind of deadline, not a secret
    IDLE = "idle"
    TOTAL = "total"


class UpstreamError(Exception):
    """A call to an upstream failed."""

    sent: bool = True
    """Whether the upstream may have seen the request."""

    def __init__(self, endpoint_id: str, reason: str) -> None:
        super().__init__(f"{endpoint_id}: {reason}")
        self.endpoint_id = endpoint_id
        self.reason = reason


class ConnectFailed(UpstreamError):
    """No connection came about, so nothing was sent: always safe to repeat, at once, elsewhere."""

    sent = False


class TooManyConnections(ConnectFailed):
    """The endpoint's connection limit is reached."""


class AddressNotAllowed(ConnectFailed):
    """The host has an address that this client was told not to connect to."""


class ConnectionLost(UpstreamError):
    """The connection ended after the request was sent and before the whole response head was there."""


class ProtocolError(UpstreamError):
    """The upstream's answer is not HTTP/1.1, or its head is larger than allowed."""


class BodyBroken(UpstreamError):
    """The body ended early: reset, short of its content-length, or without its last chunk."""


class BodyTooLarge(UpstreamError):
    """The body is larger than the reader allows."""


class NoMemory(BodyTooLarge):
    """What requests and answers may hold together has no room for the body now. That is nobody's fault upstream."""


class DeadlineExceeded(UpstreamError):
    """A wait took too long."""

    def __init__(self, endpoint_id: str, kind: DeadlineKind) -> None:
        super().__init__(endpoint_id, f"the {kind} deadline passed")
        self.kind = kind
        self.sent = kind is not DeadlineKind.CONNECT
