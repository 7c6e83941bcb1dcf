"""Names to addresses, remembered for a moment."""

import asyncio
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from capstan_gateway.life.threads import Threads

MAX_NAMES: Final = 256
DNS_THREADS: Final = 4
"""A resolver that does not answer for one name holds one of them for some seconds."""
STALE_SECONDS: Final = 300.0
"""How long an answer is better than none: while the resolver is down, old addresses are used."""


class NotAllowed(OSError):
    """A name with an address that must not be asked."""


LookUp = Callable[[str], Awaitable[tuple[str, ...]]]


class Resolver:
    """Remembers what `look_up` said; callers that ask for one name at once share one look-up.

    With `allowed`, a host that has an address which is not is none: what is given is what was checked.
    """

    def __init__(
        self, ttl_seconds: float, *, look_up: LookUp | None = None, allowed: Callable[[str], bool] | None = None
    ) -> None:
        self._allowed = allowed
        self._ttl = ttl_seconds
        self._threads = Threads("dns", workers=DNS_THREADS, queued=MAX_NAMES)
        self._ask = look_up or self._ask_system
        self._known: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()
        self._running: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def resolve(self, host: str) -> tuple[str, ...]:
        """Give the addresses of a host, in the resolver's order. Raises OSError when there are none."""
        if _is_address(host):
            self._check((host,))
            return (host,)
        now = asyncio.get_running_loop().time()
        known = self._known.get(host)
        if known is not None and now - known[0] < self._ttl:
            return known[1]
        task = self._running.get(host)
        if task is None:
            task = asyncio.create_task(self._look_up(host), name=f"resolve {host}")
            self._running[host] = task
            task.add_done_callback(lambda done: self._finished(host, done))
        try:
            return await asyncio.shield(task)
        except NotAllowed:
            raise
        except OSError:
            if known is not None and now - known[0] < STALE_SECONDS:
                return known[1]
            raise

    async def aclose(self) -> None:
        """Give up look-ups that are under way."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.close()

    async def _ask_system(self, host: str) -> tuple[str, ...]:
        """Give the addresses that the system's resolver knows, in its order."""
        # NB: not the loop's own getaddrinfo: its few threads are those of everything else that blocks.
        found = await self._threads.run(_ask_system, host)
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))

    async def _look_up(self, host: str) -> tuple[str, ...]:
        try:
            addresses = await self._ask(host)
        except UnicodeError as error:
            # A label that is empty or too long: the encoding of names fails before anybody is asked.
            raise OSError("the name cannot be a host's") from error
        if not addresses:
            raise OSError("the name has no address")
        self._check(addresses)
        self._known[host] = (asyncio.get_running_loop().time(), addresses)
        self._known.move_to_end(host)
        while len(self._known) > MAX_NAMES:
            self._known.popitem(last=False)
        return addresses

    def _check(self, addresses: tuple[str, ...]) -> None:
        if self._allowed is not None and not all(map(self._allowed, addresses)):
            raise NotAllowed("the name has an address that is not allowed")

    def _finished(self, host: str, task: asyncio.Task[tuple[str, ...]]) -> None:
        self._running.pop(host, None)
        if not task.cancelled():
            task.exception()  # Retrieved here as well, for the case that every caller has gone.


def _ask_system(host: str) -> list[tuple[Any, ...]]:
    return [*socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
