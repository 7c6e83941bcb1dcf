"""Redis behind `port.KeyStore`: one pool of connections, a deadline for every call, and one word on how it goes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from capstan_contract.redis_address import RedisAddress, read_address
from capstan_gateway.stores.port import PAGE_FIELDS, StoreDown

log = logging.getLogger(__name__)

T = TypeVar("T")
MOST_CONNECTIONS: Final = 32
"""Calls that wait for an answer at once; further ones wait for those, within their deadline."""
PING_SECONDS: Final = 10.0
DOWN_PING_SECONDS: Final = 1.0
"""How often it is asked whether it is there, while nobody else asks and while it is not."""


class RedisStore:
    """Implements `port.KeyStore` and `lifecycle.Part`. Nothing that it says names the address or the password."""

    name = "redis"

    def __init__(
        self,
        url: str,
        *,
        password: str | None = None,
        ca_file: Path | None = None,
        seconds: float = 1.0,
        rng: Random,
        on_call: Callable[[str, str], None] = lambda _, __: None,
    ) -> None:
        self._seconds = seconds
        self._rng = rng
        self._on_call = on_call
        self._down: str | None = None
        """Why the latest call had no answer."""
        self._refused: dict[str, str] = {}
        """Why Redis refuses calls, by their kinds: it has no room, or forbids them."""
        self._pool = _pool(read_address(url), password=password, ca_file=ca_file)
        self._client = Redis(connection_pool=self._pool)
        self._scripts: dict[str, Any] = {}

    @property
    def failure(self) -> str | None:
        """What is wrong with Redis now, by the kind of error; None when nothing is."""
        return self._down or next(iter(self._refused.values()), None)

    async def read(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        """Give these fields of a key. Raises StoreDown."""
        found = await self._within("read", lambda: cast(Awaitable[Any], self._client.hmget(key, list(fields))))
        return list(found)

    async def read_all(self, key: str) -> dict[bytes, bytes]:
        """Give all fields of a key, a page after the other (`PAGE_FIELDS`). Raises StoreDown."""
        found: dict[bytes, bytes] = {}
        cursor = 0
        while True:
            cursor, page = await self._within("read", partial(self._page, key, cursor))
            found |= page
            if not cursor:
                return found

    def _page(self, key: str, cursor: int) -> Awaitable[Any]:
        return cast(Awaitable[Any], self._client.hscan(key, cursor, count=PAGE_FIELDS))

    async def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> int:
        """Run a script, which Redis is told anew when it has forgotten it. Raises StoreDown."""
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self._client.register_script(script)
        return int(await self._within("script", lambda: known(keys=keys, args=arguments)))

    async def run(self) -> None:
        """Ask now and then whether it is there, so that who looks at the gateway knows before a request does."""
        while True:
            try:
                await self._within("ping", lambda: cast(Awaitable[Any], self._client.ping()))
            except StoreDown:
                pass  # It is logged and noted.
            pause = PING_SECONDS if self.failure is None else DOWN_PING_SECONDS
            await asyncio.sleep(pause * self._rng.uniform(0.8, 1.2))

    def not_ready(self) -> str | None:
        """Keep no request away: most need nothing of it."""
        return None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.disconnect()

    async def _within(self, call: str, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._seconds):
                result = await work()
        except ResponseError as error:
            self._on_call(call, "refused")
            self._note_refusal(call, type(error).__name__)
            raise StoreDown(f"Redis refused: {type(error).__name__}") from error
        except (RedisError, OSError) as error:  # NB: TimeoutError is an OSError.
            self._on_call(call, "failed")
            self._note_down(type(error).__name__)
            raise StoreDown(f"Redis did not answer: {type(error).__name__}") from error
        self._on_call(call, "answered")
        if self._down is not None or self._refused:
            self._note_answer(call)
        return result

    def _note_down(self, reason: str) -> None:
        """Log that it is away, once."""
        if self._down is None:
            log.warning("Redis does not answer", extra={"reason": reason})
        self._down = reason

    def _note_refusal(self, call: str, reason: str) -> None:
        """Log that it refuses such calls, once: others may go on."""
        self._down = None
        if self._refused.get(call) != reason:
            log.warning("Redis refuses calls", extra={"call": call, "reason": reason})
        self._refused[call] = reason

    def _note_answer(self, call: str) -> None:
        """Log what works again."""
        if self._down is not None or call in self._refused:
            log.info("Redis answers again", extra={"call": call})
        self._down = None
        self._refused.pop(call, None)


def _pool(address: RedisAddress, *, password: str | None, ca_file: Path | None) -> BlockingConnectionPool:
    """Make the pool. Certificates and their names are checked with rediss://.

    It has no deadlines of its own: a call has one for all that it waits for, and a connection that was given up in the
    middle is closed.
    """
    options: dict[str, Any] = {}
    if address.tls:
        options = {"connection_class": SSLConnection, "ssl_ca_certs": None if ca_file is None else str(ca_file)}
    else:
        options = {"connection_class": Connection}
    (node,) = address.nodes
    return BlockingConnectionPool(
        host=node.host, port=node.port, db=address.database, username=address.username,
        password=address.password or password,
        max_connections=MOST_CONNECTIONS, timeout=None, socket_timeout=None, socket_connect_timeout=None,
        # A connection that has died since its last call is made anew, once. RESP2, which every release speaks.
        retry=Retry(NoBackoff(), 1), protocol=2, client_name="capstan-gateway", **options,
    )  # fmt: skip
