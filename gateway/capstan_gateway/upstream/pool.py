"""The connections to one endpoint."""

import asyncio
import math
from typing import Final

from capstan_gateway.upstream.connection import Connection
from capstan_gateway.upstream.errors import (
    AddressNotAllowed,
    ConnectFailed,
    DeadlineExceeded,
    DeadlineKind,
    TooManyConnections,
)
from capstan_gateway.upstream.limits import Limits
from capstan_gateway.upstream.port import Endpoint
from capstan_gateway.upstream.resolver import NotAllowed, Resolver
from capstan_gateway.upstream.tls import TlsContexts

FORBIDDEN: Final = bytes((*range(33), 127))
"""In a request's target: white space and control characters."""
MAX_START_LINES: Final = 16
MAX_ADDRESSES: Final = 4
"""Of a name with more addresses, only the first ones are tried."""


class Pool:
    """Opens connections to an endpoint and keeps those that can be used again, the last one used on top."""

    def __init__(self, endpoint: Endpoint, *, limits: Limits, resolver: Resolver, contexts: TlsContexts) -> None:
        self.endpoint = endpoint
        self._limits = limits
        self._resolver = resolver
        self._contexts = contexts
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting = 0
        self._retired = False
        self._static_headers = _static_headers(endpoint)
        """The headers that every request to this endpoint has, and the end of the request line before them."""
        self._start_lines: dict[tuple[bytes, bytes, bytes], bytes] = {}

    def take(self) -> Connection | None:
        """Give an idle connection that can be used, if there is one."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.reusable:  # All that `usable` asks of one that is idle.
                return connection
        return None

    def start_line(self, method: bytes, base_path: bytes, path: bytes) -> bytes:
        """Give the request line and the headers of every request; the few that come often are kept.

        A path with two slashes in front is not below the API's `/v1` but beside it. Raises ValueError for a target that
        would be more than one.
        """
        known = self._start_lines.get((method, base_path, path))
        if known is not None:
            return known
        target = base_path.removesuffix(b"/v1") + path[1:] if path.startswith(b"//") else base_path + path
        if len(target.translate(None, FORBIDDEN)) != len(target):
            raise ValueError("a request's target holds a character that is not allowed in it")
        line = method + b" " + target + self._static_headers
        if len(self._start_lines) < MAX_START_LINES:
            self._start_lines[method, base_path, path] = line
        return line

    @property
    def size(self) -> int:
        """How many connections are open or being opened."""
        return len(self._open) + self._connecting

    @property
    def idle(self) -> int:
        """How many of them are free."""
        return len(self._idle)

    async def connect(self, timeout: float) -> Connection:
        """Open a connection. Raises ConnectFailed or DeadlineExceeded."""
        if self.size >= self._limits.connections:
            raise TooManyConnections(self.endpoint.id, f"{self.size} connections are open, as many as are allowed")
        self._connecting += 1
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(self._loop.time() + timeout)
        except TimeoutError as error:
            raise DeadlineExceeded(self.endpoint.id, DeadlineKind.CONNECT) from error
        except NotAllowed as error:
            raise AddressNotAllowed(self.endpoint.id, str(error)) from error
        except OSError as error:
            raise ConnectFailed(self.endpoint.id, f"no connection: {_describe(error)}") from error
        finally:
            self._connecting -= 1

    def close_idle(self, idle_since: float) -> None:
        """Close the connections that have had no request since that time or longer."""
        kept: list[Connection] = []
        for connection in self._idle:
            if connection.usable and connection.idle_since > idle_since:
                kept.append(connection)
            else:
                connection.abort()
        self._idle = kept

    def retire(self) -> None:
        """Keep no connection any more; those in use end with their response."""
        self._retired = True
        self.close_idle(math.inf)

    def abort_all(self) -> None:
        """Close every connection, in use or not."""
        self._idle.clear()
        for connection in list(self._open):
            connection.drop()

    async def _connect(self, deadline: float) -> Connection:
        """Try the addresses one after the other; each but the last has a share of the time that is left."""
        addresses = (await self._resolver.resolve(self.endpoint.host))[:MAX_ADDRESSES]
        context = self._contexts.get(self.endpoint)
        server_name = None if context is None else self.endpoint.server_name or self.endpoint.host
        for left in range(len(addresses), 0, -1):
            address = addresses[len(addresses) - left]
            # Made here, so that it is known however the waiting ends: who is cancelled, or runs out of time, in the
            # turn of the loop in which the connection comes about never gets it from the loop.
            connection = Connection(self.endpoint.id, self._limits, self)
            try:
                async with asyncio.timeout((deadline - self._loop.time()) / left):
                    await self._loop.create_connection(
                        lambda made=connection: made,
                        address,
                        self.endpoint.port,
                        ssl=context,
                        server_hostname=server_name,
                    )
            except OSError:
                self._give_up(connection)
                if left == 1:
                    raise
                continue
            except BaseException:
                self._give_up(connection)
                raise
            if connection.usable:
                return connection
            raise ConnectionResetError
        raise OSError("the name has no address")

    def _give_up(self, connection: Connection) -> None:
        """Close a connection that nobody waits for any more, and count it no longer.

        NB: uvloop tells a connection that is cut off while it comes about neither that it was made nor that it is lost.
        """
        connection.abort()
        self.on_closed(connection)

    # --- for the connections ----------------------------------------------------------------------------------------

    def on_open(self, connection: Connection) -> None:
        """A connection came about."""
        self._open.add(connection)

    def on_closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def on_idle(self, connection: Connection) -> None:
        """A connection is free again."""
        connection.idle_since = self._loop.time()
        if not self._retired and len(self._idle) < self._limits.idle_connections:
            self._idle.append(connection)
        else:
            connection.abort()


def _static_headers(endpoint: Endpoint) -> bytes:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    default = 443 if endpoint.scheme == "https" else 80
    authority = host if endpoint.port == default else f"{host}:{endpoint.port}"
    return b" HTTP/1.1\r\nhost: " + authority.encode() + b"\r\naccept-encoding: identity\r\n"


def _describe(error: OSError) -> str:
    """The kind of failure without addresses or certificates: `ConnectionRefusedError`, `SSLCertVerificationError`."""
    return type(error).__name__
