"""Redis Cluster: which node has a key, learned from the nodes and from where they send us.

MOVED   the slot has another node now: it is noted, the call is sent there, and the map is read anew
ASK     the slot is on its way: this one call is sent there, the map stays
"""

import asyncio
import binascii
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final

from capstan_contract.redis_address import MOST_NODES, Node, RedisAddress
from capstan_gateway.stores.dial import DialRules, dial
from capstan_gateway.stores.link import Link
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.wire import Refused, Reply, pack

SLOTS: Final = 16384
MOST_REDIRECTS: Final = 3
REFRESH_SECONDS: Final = 1.0
"""How often the map is read anew at most, and how often at least while a node is away."""
ASKING: Final = pack(("ASKING",))
MAP: Final = pack(("CLUSTER", "SLOTS"))


def slot_of(key: str) -> int:
    """Give the slot of a key: CRC16 of what is between its first `{` and the next `}`, where that is not empty."""
    opened = key.find("{")
    if opened >= 0:
        closed = key.find("}", opened + 1)
        if closed > opened + 1:
            key = key[opened + 1 : closed]
    return binascii.crc_hqx(key.encode(), 0) % SLOTS


def read_map(reply: Reply, asked: Node) -> list[Node | None]:
    """Give each slot's master from an answer to CLUSTER SLOTS; a host that is not said is the one that was asked."""
    slots: list[Node | None] = [None] * SLOTS
    for first, last, master, *_ in reply:
        host = (master[0] or b"").decode()
        node = Node(host if host and host != "?" else asked.host, int(master[1]))
        for slot in range(max(int(first), 0), min(int(last), SLOTS - 1) + 1):
            slots[slot] = node
    return slots


def redirected(error: Refused, asked: Node) -> tuple[str, int, Node] | None:
    """Read `MOVED 3999 127.0.0.1:6381`: the word, the slot, and where to; None when it is none of these."""
    words = str(error).split(" ")
    if words[0] not in ("MOVED", "ASK") or len(words) != 3:
        return None
    host, _, port = words[2].rpartition(":")
    if not words[1].isdigit() or not port.isdigit() or int(words[1]) >= SLOTS:
        return None
    return words[0], int(words[1]), Node(host or asked.host, int(port))


class ClusterLinks:
    """One connection to each node that has one of our keys."""

    def __init__(self, address: RedisAddress, rules: DialRules, *, rng: Random) -> None:
        self._seeds = address.nodes
        self._rules = rules
        self._rng = rng
        self._slots: list[Node | None] = [None] * SLOTS
        self._links: dict[Node, Link] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._known = asyncio.Event()
        self._closed = False
        self.on_up: Callable[[], object] = lambda: None
        self.on_down: Callable[[], object] = lambda: None

    @property
    def failure(self) -> str | None:
        """What is wrong with a node that has slots, or with all that we know."""
        if not self._known.is_set():
            return next((link.failure for link in self._links.values() if link.failure), None)
        masters = set(self._slots)
        return next((link.failure for node, link in self._links.items() if node in masters and link.failure), None)

    @property
    def connected(self) -> bool:
        """Whether the map is known and no node that has slots is known to be away."""
        return self._known.is_set() and self.failure is None

    def start(self) -> None:
        """Read the map in the background."""
        if self._refreshing is None and not self._closed:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    async def call(self, key: str, command: bytes) -> Reply:
        """Send a command to the node that has this key. Raises StoreDown."""
        slot = slot_of(key)
        node = self._slots[slot]
        if node is None:
            node = await self._found(slot)
        try:
            return await self._link(node).send(command)
        except Refused as error:
            found = redirected(error, node)
            if found is None:
                if error.kind == "CLUSTERDOWN":
                    self.start()
                raise
            async with _in_time(self._rules.seconds):
                return await self._follow(found, command)
        except StoreDown:
            self.start()
            raise

    async def nodes(self) -> Sequence[Link]:
        """Give each node that has slots. Raises StoreDown."""
        if not self._known.is_set():
            await self._found(0)
        return [self._link(node) for node in dict.fromkeys(self._slots) if node is not None]

    async def aclose(self) -> None:
        """End all connections."""
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await asyncio.gather(*(link.aclose() for link in self._links.values()))

    async def _follow(self, found: tuple[str, int, Node], command: bytes) -> Reply:
        for _ in range(MOST_REDIRECTS):
            word, slot, node = found
            if word == "MOVED":
                self._slots[slot] = node
                self.start()
            try:
                return await self._link(node).send(*((ASKING, command) if word == "ASK" else (command,)))
            except Refused as error:
                again = redirected(error, node)
                if again is None:
                    raise
                found = again
        raise StoreDown("the nodes of the Redis Cluster send us from one to the other")

    async def _found(self, slot: int) -> Node:
        self.start()
        async with _in_time(self._rules.seconds):
            await self._known.wait()
        node = self._slots[slot]
        if node is None:
            raise StoreDown("no node of the Redis Cluster has this slot")
        return node

    def _link(self, node: Node) -> Link:
        link = self._links.get(node)
        if link is None:
            if len(self._links) >= 2 * MOST_NODES:
                raise StoreDown("the Redis Cluster has too many nodes")
            link = self._links[node] = Link(
                lambda on_lost: dial(node, self._rules, on_lost=on_lost), seconds=self._rules.seconds, rng=self._rng
            )
            link.on_up, link.on_down = self._up, self._down
        return link

    def _up(self) -> None:
        if self.connected:
            self.on_up()

    def _down(self) -> None:
        self.start()
        self.on_down()

    async def _refresh(self) -> None:
        """Read the map from whoever answers; again and again until one does, and no node with slots is away."""
        try:
            while True:
                if await self._read_map() and self.failure is None:
                    break
                await asyncio.sleep(REFRESH_SECONDS * self._rng.uniform(0.5, 1.5))
            await asyncio.sleep(REFRESH_SECONDS)  # However many calls are moved: once a second.
        finally:
            self._refreshing = None

    async def _read_map(self) -> bool:
        for node in (*self._links, *self._seeds):
            try:
                reply = await self._link(node).send(MAP)
                slots = read_map(reply, node)
            except (StoreDown, ValueError, TypeError, IndexError):
                continue
            if all(one is None for one in slots):
                continue
            await self._take_map(slots)
            return True
        return False

    async def _take_map(self, slots: list[Node | None]) -> None:
        self._slots = slots
        kept = {*slots, *self._seeds}
        gone = [self._links.pop(node) for node in tuple(self._links) if node not in kept]
        known = self._known.is_set()
        self._known.set()
        if not known:
            self.on_up()
        for link in gone:
            await link.aclose()


@asynccontextmanager
async def _in_time(seconds: float) -> AsyncIterator[None]:
    """A deadline that raises StoreDown."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise StoreDown("Redis did not answer in time") from None
