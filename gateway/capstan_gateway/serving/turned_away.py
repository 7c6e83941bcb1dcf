"""Requests that are refused before the pipeline has them: each has an id, a line in the log, and is counted."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Protocol

from capstan_contract.names import REQUEST_ID_HEADER
from capstan_gateway.errors import (
    GatewayError,
    HeadersTooLarge,
    IdentityUnavailable,
    Overloaded,
    Unauthenticated,
    Unconfigured,
)
from capstan_gateway.headers import Header, find_header
from capstan_gateway.serving.request_ids import RequestIds

_REQUEST_ID = REQUEST_ID_HEADER.encode()
MAX_ROUTE = 200
"""Bytes of a target that the log has."""


class Reason(StrEnum):
    """Why a request, or a connection, was turned away."""

    CONCURRENCY = "concurrency"
    """As many requests are in flight as may be."""
    CONNECTIONS = "connections"
    """As many connections are open as may be."""
    MEMORY = "memory"
    """What it would hold does not fit into the budget."""
    NO_CONFIG = "no_config"
    """There is no config yet."""
    METHOD = "method"
    """The route does not take the method."""
    UNAUTHENTICATED = "unauthenticated"
    """Nobody is known by its credential, or it has none."""
    IDENTITY = "identity"
    """Tokens cannot be checked: the keys of their issuer are not known."""
    HEAD = "head"
    """The head is too large."""
    MALFORMED = "malformed"
    """What came is no request that this server understands."""

    @classmethod
    def of(cls, error: GatewayError) -> "Reason":
        """The reason behind an error that was found while reading, or looking who asks."""
        if isinstance(error, HeadersTooLarge):
            return cls.HEAD
        if isinstance(error, Unauthenticated | IdentityUnavailable):
            return cls.UNAUTHENTICATED if isinstance(error, Unauthenticated) else cls.IDENTITY
        if isinstance(error, Unconfigured):
            return cls.NO_CONFIG
        return cls.MEMORY if isinstance(error, Overloaded) else cls.MALFORMED


class Counter(Protocol):
    """What counts them."""

    def __call__(self, reason: str) -> object:
        """Count one."""
        ...


class TurnedAway:
    """Where refusals are noted."""

    def __init__(
        self,
        ids: RequestIds | None = None,
        *,
        count: Counter = lambda reason: None,  # noqa: ARG005 - a counter that counts nothing
        write: Callable[[dict[str, Any]], object] = lambda fields: None,  # noqa: ARG005 - and a log that keeps nothing
    ) -> None:
        self._ids = ids or RequestIds()
        self._count = count
        self._write = write

    def request_id(self, headers: Sequence[Header]) -> bytes:
        """Give the id of a request with these headers: the client's own if it is harmless."""
        return self._ids.accept(find_header(headers, _REQUEST_ID))

    def note(self, reason: Reason, error: GatewayError, request_id: bytes, route: str = "") -> None:
        """Count one refusal and write its line."""
        self._count(reason)
        line: dict[str, Any] = {"request_id": request_id.decode()}
        if route:
            line["route"] = route[:MAX_ROUTE]
        line |= {"status": error.status, "error": error.code or error.type, "refused": str(reason)}
        self._write(line)
