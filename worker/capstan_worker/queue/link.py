"""The queue's Redis, behind two methods. The only module of the worker that knows the client of Redis."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from hashlib import sha1
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from capstan_contract.queue.calls import Call
from capstan_contract.redis_address import Kind, RedisAddress, read_address
from capstan_worker.errors import QueueAway

log = logging.getLogger(__name__)
T = TypeVar("T")
MOST_CONNECTIONS: Final = 16
_SPARE_SECONDS: Final = 2.0
"""How much longer than it was told to a Redis may take to say that it has heard nothing."""


class Link(Protocol):
    """What the consumer needs of Redis. Every method raises QueueAway where it does not answer, or refuses."""

    @property
    def answers(self) -> bool:
        """Whether it answered the last time that it was asked."""

    async def run(self, call: Call) -> Any:
        """Run a script."""

    async def hear(self, key: str, seconds: float) -> bytes | None:
        """Wait for the first word of a list and take it out; None when none came in time."""

    async def aclose(self) -> None:
        """Close all connections."""


class RedisLink:
    """A Link to a server, one found through Sentinels, or a Cluster. Nothing it says names address or password."""

    def __init__(
        self, url: str, *, password: str | None = None, sentinel_password: str | None = None,
        ca_file: Path | None = None, seconds: float = 5.0, without: str = "no queued work is taken",
    ) -> None:  # fmt: skip
        """`seconds` is the deadline of a call; `without` says what is not done while it does not answer."""
        self._without = without
        self._seconds = seconds
        self._client, self._others = _clients(
            read_address(url), password=password, sentinel_password=sentinel_password, ca_file=ca_file, seconds=seconds
        )
        self._digests: dict[str, str] = {}
        """By the text of a script. There are as many as the contract has."""
        self.failure: str | None = None
        """Why the latest call had no answer, by the kind of error."""
        self._asked = False

    @property
    def answers(self) -> bool:
        """Whether it answered the last time that it was asked."""
        return self._asked and self.failure is None

    async def run(self, call: Call) -> Any:
        """Run a script, which Redis is told anew when it has forgotten it."""
        digest = self._digests.get(call.script)
        if digest is None:
            digest = self._digests[call.script] = sha1(call.script.encode(), usedforsecurity=False).hexdigest()
        words = (len(call.keys), *call.keys, *call.arguments)
        try:
            return await self._within(self._seconds, lambda: self._client.evalsha(digest, *words))
        except NoScriptError:
            return await self._within(self._seconds, lambda: self._client.eval(call.script, *words))

    async def hear(self, key: str, seconds: float) -> bytes | None:
        """Block on a connection that nothing else uses meanwhile."""
        found = await self._within(seconds + _SPARE_SECONDS, lambda: self._client.blpop([key], timeout=seconds))
        return None if found is None else bytes(found[1])

    async def aclose(self) -> None:
        """Close all connections."""
        for client in (self._client, *self._others):
            try:
                await client.aclose()
            except (RedisError, OSError):
                pass  # They are closed.

    async def _within(self, seconds: float, work: Callable[[], Awaitable[T] | T]) -> T:
        try:
            async with asyncio.timeout(seconds):
                result = await cast(Awaitable[T], work())
        except NoScriptError:
            raise
        except (
            RedisError,
            RedisClusterException,
            OSError,
            asyncio.IncompleteReadError,
        ) as error:  # NB: and TimeoutError
            self._note(type(error).__name__)
            raise QueueAway(f"Redis did not answer as it should: {type(error).__name__}") from error
        self._note(None)
        return result

    def _note(self, failure: str | None) -> None:
        if failure is not None and self.failure is None:
            log.warning(f"Redis does not answer: {self._without}", extra={"reason": failure})
        elif failure is None and self.failure is not None:
            log.info("Redis answers again")
        self.failure, self._asked = failure, True


def _clients(
    address: RedisAddress, *, password: str | None, sentinel_password: str | None, ca_file: Path | None, seconds: float
) -> tuple[Any, list[Any]]:
    """Make the client, and those that it asks where the server is. Certificates and their names are checked with TLS.

    It has no deadlines but ours, and tries nothing again: what may be said twice is known to those who say it.
    """
    secret = address.password or password
    who: dict[str, Any] = {"username": address.username, "password": secret, "client_name": "capstan-worker"}
    sockets: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": seconds}
    trust: dict[str, Any] = {"ssl_ca_certs": None if ca_file is None else str(ca_file)} if address.tls else {}
    retry = Retry(NoBackoff(), 0)
    if address.kind is Kind.CLUSTER:
        nodes = [ClusterNode(node.host, node.port) for node in address.nodes]
        cluster = RedisCluster(
            startup_nodes=nodes, max_connections=MOST_CONNECTIONS, ssl=address.tls, protocol=2,
            retry=Retry(NoBackoff(), 1), **who, **sockets, **trust,
        )  # fmt: skip
        return cluster, []
    if address.kind is Kind.SENTINEL:
        tls: dict[str, Any] = {"ssl": True, **trust} if address.tls else {}
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            [(node.host, node.port) for node in address.nodes],
            sentinel_kwargs={
                "password": sentinel_password,
                "socket_timeout": seconds,
                "protocol": 2,
                "retry": retry,
                **tls,
            },
        )
        master = sentinel.master_for(
            address.service, db=address.database, protocol=2, retry=retry, **who, **sockets, **tls
        )
        return master, list(sentinel.sentinels)
    (node,) = address.nodes
    pool = BlockingConnectionPool(
        connection_class=SSLConnection if address.tls else Connection, host=node.host, port=node.port,
        db=address.database, max_connections=MOST_CONNECTIONS, timeout=None, retry=retry, protocol=2,
        **who, **sockets, **trust,
    )  # fmt: skip
    return Redis.from_pool(pool), []
