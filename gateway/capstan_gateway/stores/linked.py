"""Redis behind `port.KeyStore` where it is more than one server: found through Sentinels, or a Redis Cluster."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from capstan_gateway.stores.port import PAGE_FIELDS, StoreDown
from capstan_gateway.stores.scripted import Links, Script, run_script
from capstan_gateway.stores.wire import Refused, Reply, pack

MOST_SCRIPTS: Final = 32


class LinkedStore:
    """Implements `port.KeyStore` and `lifecycle.Part`. Nothing that it says names an address or a password."""

    name = "redis"

    def __init__(self, links: Links, *, on_call: Callable[[str, str], None] = lambda _, __: None) -> None:
        self._links = links
        self._on_call = on_call
        self._refused: dict[str, str] = {}
        self._scripts: dict[str, Script] = {}

    @property
    def failure(self) -> str | None:
        """What is wrong with Redis now; None when nothing is."""
        return self._links.failure or next(iter(self._refused.values()), None)

    async def read(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        """Give these fields of a key. Raises StoreDown."""
        return list(await self._noted("read", self._links.call(key, pack(("HMGET", key, *fields)))))

    async def read_all(self, key: str) -> dict[bytes, bytes]:
        """Give all fields of a key, a page after the other (`PAGE_FIELDS`). Raises StoreDown."""
        found: dict[bytes, bytes] = {}
        cursor: bytes | int = 0
        while True:
            call = self._links.call(key, pack(("HSCAN", key, cursor, "COUNT", PAGE_FIELDS)))
            cursor, page = await self._noted("read", call)
            words = iter(page)
            found.update(zip(words, words, strict=True))
            if not int(cursor):
                return found

    async def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> int:
        """Run a script, which Redis is told anew when it has forgotten it. Raises StoreDown."""
        known = self._scripts.get(script)
        if known is None:
            if len(self._scripts) >= MOST_SCRIPTS:
                self._scripts.clear()
            known = self._scripts[script] = Script(script)
        return int(await self._noted("script", run_script(self._links, known, keys, arguments)))

    async def run(self) -> None:
        """Connect, so that who looks at the gateway knows how it goes before a request does."""
        self._links.start()
        await asyncio.Event().wait()

    def not_ready(self) -> str | None:
        """Keep no request away: most need nothing of it."""
        return None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._links.aclose()

    async def _noted(self, call: str, work: Awaitable[Reply]) -> Reply:
        try:
            reply = await work
        except Refused as error:
            self._on_call(call, "refused")
            self._refused[call] = error.kind
            raise
        except StoreDown:
            self._on_call(call, "failed")
            raise
        self._on_call(call, "answered")
        self._refused.pop(call, None)
        return reply
