"""Bounds of the client: every buffer, wait and pool has one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that hold for every endpoint."""

    head_bytes: int = 64 * 1024
    """Most bytes without progress in the body: a response head, trailers, chunk extensions, informational responses."""
    header_count: int = 200
    connections: int = 4096
    """Open connections to one endpoint."""
    idle_connections: int = 512
    """Of these, most that are kept without a request."""
    idle_seconds: float = 4.0
    """How long a connection is kept without a request. Less than the 5 s of uvicorn, which is what vLLM runs: a
    connection that both sides use until the last moment is one that dies under a request."""
    high_water: int = 64 * 1024
    """Unread bytes of one body at which the connection stops reading, until the consumer has taken them."""
    dns_seconds: float = 10.0
    """How long a resolved name is believed."""


DEFAULT = Limits()
