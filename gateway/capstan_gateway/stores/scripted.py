"""Commands and scripts on a Redis of any kind: one server, one that Sentinels know, or a Redis Cluster."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, Protocol

from capstan_contract.redis_address import Kind, RedisAddress
from capstan_gateway.stores.cluster import ClusterLinks
from capstan_gateway.stores.dial import dial, dial_master, rules_for
from capstan_gateway.stores.link import Link
from capstan_gateway.stores.wire import Connection, Refused, Reply, Word, pack

FORGOTTEN: Final = "NOSCRIPT"


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name by which Redis knows it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


class Node(Protocol):
    """One server."""

    async def send(self, *commands: bytes) -> Reply:
        """Send packed commands together; give the last one's reply. Raises StoreDown."""
        ...


class Links(Protocol):
    """Connections to a Redis. Calls raise StoreDown within their deadline."""

    on_up: Callable[[], object]
    on_down: Callable[[], object]

    @property
    def failure(self) -> str | None:
        """What is wrong; None when nothing is known to be."""
        ...

    @property
    def connected(self) -> bool:
        """Whether a call would be sent at once."""
        ...

    def start(self) -> None:
        """Connect in the background."""
        ...

    async def call(self, key: str, command: bytes) -> Reply:
        """Send a packed command to whoever has this key."""
        ...

    async def nodes(self) -> Sequence[Node]:
        """Give whoever has keys, for what is asked of each of them. Raises StoreDown."""
        ...

    async def aclose(self) -> None:
        """End all connections."""
        ...


class OneLink(Link):
    """The connection to a Redis where every key is in one place."""

    async def call(self, key: str, command: bytes) -> Reply:  # noqa: ARG002 - of Links
        """Send a packed command."""
        return await self.send(command)

    async def nodes(self) -> Sequence[Node]:
        """Give the one that there is."""
        return (self,)


async def run_script(links: Links, script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Reply:
    """Run a script, which Redis is told anew, once, when it has forgotten it. Raises StoreDown."""
    try:
        return await links.call(keys[0], pack(("EVALSHA", script.sha, len(keys), *keys, *arguments)))
    except Refused as error:
        if error.kind != FORGOTTEN:
            raise
    return await links.call(keys[0], pack(("EVAL", script.text, len(keys), *keys, *arguments)))


def make_links(
    address: RedisAddress, *, seconds: float, rng: Random, password: str | None = None,
    sentinel_password: str | None = None, ca_file: Path | None = None,
    on_reply: Callable[[float], object] | None = None,
) -> Links:  # fmt: skip
    """Make the connections that an address asks for; nothing is connected yet."""
    rules = rules_for(
        address, seconds=seconds, password=password, sentinel_password=sentinel_password, ca_file=ca_file,
        on_reply=on_reply,
    )  # fmt: skip
    if address.kind is Kind.CLUSTER:
        return ClusterLinks(address, rules, rng=rng)

    async def connect(on_lost: Callable[[Connection], object]) -> Connection:
        if address.kind is Kind.SENTINEL:
            return await dial_master(address, rules, on_lost=on_lost)
        return await dial(address.nodes[0], rules, on_lost=on_lost)

    return OneLink(connect, seconds=seconds, rng=rng)
