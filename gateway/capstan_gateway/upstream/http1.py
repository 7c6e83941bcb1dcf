"""The gateway's own HTTP/1.1 client: `port.UpstreamClient` on asyncio protocols and httptools.

It does what a gateway needs and nothing else. No redirects, no cookies, no decompression, no proxies: bytes go out
and come back as they are.
"""

import asyncio
import math
import ssl
from collections.abc import Callable, Mapping
from typing import Final

from capstan_gateway.headers import header_lines
from capstan_gateway.upstream.connection import Connection
from capstan_gateway.upstream.errors import ConnectionLost, DeadlineExceeded, DeadlineKind, UpstreamError
from capstan_gateway.upstream.limits import DEFAULT, Limits
from capstan_gateway.upstream.pool import Pool
from capstan_gateway.upstream.port import Endpoint, Headers, Sending
from capstan_gateway.upstream.resolver import Resolver
from capstan_gateway.upstream.response import Response
from capstan_gateway.upstream.tls import TlsContexts

STALE_SECONDS: Final = 1.0
"""A reused connection that is lost sooner than this after sending was most likely closed by the server meanwhile."""
CLOSE_SECONDS: Final = 2.0
BODYLESS: Final = frozenset((b"GET", b"HEAD", b"DELETE", b"OPTIONS"))


class Http1Client:
    """Sends requests over kept-alive connections. Belongs to the loop that it was made in."""

    def __init__(
        self,
        *,
        limits: Limits = DEFAULT,
        tls: Mapping[str, ssl.SSLContext] | None = None,
        allowed: Callable[[str], bool] | None = None,
    ) -> None:
        """Make it. With `allowed` it connects to no address for which that is not True."""
        self._limits = limits
        self._contexts = TlsContexts(tls)
        self._resolver = Resolver(limits.dns_seconds, allowed=allowed)
        self._pools: dict[str, Pool] = {}
        self._retired: list[Pool] = []
        """Pools of an address that their endpoint no longer has, until their last response is over."""
        self._loop = asyncio.get_running_loop()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

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
    ) -> Response:
        """Send a request and return as soon as the head of its response is there; see `port.UpstreamClient`."""
        pool = self._pools.get(endpoint.id)
        if pool is None or pool.endpoint is not endpoint:
            pool = self._pool(endpoint)
        start = pool.start_line(method, endpoint.base_path, path)
        if body and type(headers) is bytes:  # As every request of a client's; a call less than `build_head`.
            head = b"%b%bcontent-length: %d\r\n\r\n" % (start, headers, len(body))
        else:
            head = build_head(start, method, headers, body)
        repeatable = repeatable or method == b"GET" or method == b"HEAD"
        started = self._loop.time()
        first_byte_at = started + first_byte_timeout
        # A request that must not be sent twice gets a connection of its own: nothing else makes sure that the server
        # does not close it at this moment.
        connection = pool.take() if repeatable else None
        lost: ConnectionLost | None = None
        while True:
            reused = connection is not None
            if connection is None:
                connection = await self._connect(pool, connect_timeout, expires_at, lost)
                started = self._loop.time()
            response = connection.start(head, body, first_byte_at, idle_timeout, expires_at, method == b"HEAD")
            if sending is not None:
                sending.sent = True
            try:
                while not response.status:
                    await response.arrival()
            except ConnectionLost as error:
                if not reused or response.began or self._loop.time() - started > STALE_SECONDS:
                    raise
                pool, connection, lost = self._pool(endpoint), None, error
            except BaseException:
                response.abort()
                raise
            else:
                return response

    def close_idle(self, endpoint_id: str) -> None:
        """Close the connections to an endpoint that are not in use: it is going away."""
        pool = self._pools.get(endpoint_id)
        if pool is not None:
            pool.close_idle(math.inf)

    async def aclose(self) -> None:
        """Close every connection, and return when they are closed."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._resolver.aclose()
        pools = [*self._pools.values(), *self._retired]
        for pool in pools:
            pool.abort_all()
        deadline = self._loop.time() + CLOSE_SECONDS
        # A transport closes within a turn or two of the loop; nothing tells when the last one has.
        while any(pool.size for pool in pools) and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        self._pools.clear()

    def connections(self) -> dict[str, tuple[int, int]]:
        """Give how many connections are open and how many of them idle, by endpoint id, for metrics."""
        return {endpoint_id: (pool.size, pool.idle) for endpoint_id, pool in self._pools.items()}

    async def _connect(
        self, pool: Pool, connect_timeout: float, expires_at: float, lost: ConnectionLost | None
    ) -> Connection:
        """Open a connection; when the request was sent before on one that was lost, failing to is that loss."""
        left = expires_at - self._loop.time()
        if left <= 0:
            raise DeadlineExceeded(pool.endpoint.id, DeadlineKind.TOTAL)
        try:
            return await pool.connect(min(connect_timeout, left))
        except UpstreamError as error:
            if lost is not None:
                raise lost from error
            raise

    def _pool(self, endpoint: Endpoint) -> Pool:
        pool = self._pools.get(endpoint.id)
        if pool is not None and _same_address(pool.endpoint, endpoint):
            pool.endpoint = endpoint
            return pool
        if self._closed:
            raise RuntimeError("the client is closed")
        if pool is not None:
            pool.retire()
            self._retired.append(pool)
        pool = Pool(endpoint, limits=self._limits, resolver=self._resolver, contexts=self._contexts)
        self._pools[endpoint.id] = pool
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._limits.idle_seconds / 4, self._sweep)
        return pool

    def _sweep(self) -> None:
        """Close what has been idle for too long and forget empty pools, every so often while there is a pool."""
        idle_since = self._loop.time() - self._limits.idle_seconds
        for pool in self._pools.values():
            pool.close_idle(idle_since)
        self._pools = {endpoint_id: pool for endpoint_id, pool in self._pools.items() if pool.size}
        self._retired = [pool for pool in self._retired if pool.size]
        again = self._pools or self._retired
        self._sweeper = self._loop.call_later(self._limits.idle_seconds / 4, self._sweep) if again else None


def _same_address(one: Endpoint, other: Endpoint) -> bool:
    """Whether connections to one are connections to the other: paths, shares and keys are a matter of each request."""
    return (one.host, one.port, one.scheme, one.server_name, one.tls) == (
        other.host,
        other.port,
        other.scheme,
        other.server_name,
        other.tls,
    )


def build_head(start: bytes, method: bytes, headers: Headers, body: bytes) -> bytes:
    """Write a request head behind its first lines. Raises ValueError for a header that would be more than one."""
    lines = headers if isinstance(headers, bytes) else header_lines(headers)
    if body or method not in BODYLESS:
        return b"%b%bcontent-length: %d\r\n\r\n" % (start, lines, len(body))
    return start + lines + b"\r\n"
