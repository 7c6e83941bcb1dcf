"""How a connection to Redis comes about: TLS, user and password, database; through Sentinels where there are some.

None of it is waited for by a request: see `link`.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from capstan_contract.redis_address import Node, RedisAddress
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.wire import Connection, Refused, Reply, Word, pack, raised

CONNECT_SECONDS: Final = 1.0
"""How long one connection may take to come about, from the look-up of its name to the first reply."""
CLIENT_NAME: Final = "capstan-gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How we say who we are."""

    username: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DialRules:
    """What holds for all connections to one Redis."""

    seconds: float
    """Deadline of a call."""
    tls: ssl.SSLContext | None = None
    credentials: Credentials = Credentials()
    sentinel_credentials: Credentials = Credentials()
    database: int = 0
    on_reply: Callable[[float], object] | None = None


def rules_for(
    address: RedisAddress, *, seconds: float, password: str | None = None, sentinel_password: str | None = None,
    ca_file: Path | None = None, on_reply: Callable[[float], object] | None = None,
) -> DialRules:  # fmt: skip
    """Give the rules for a Redis; the password of the URL wins. Certificates and their names are checked."""
    tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file)) if address.tls else None
    secret = address.password or password
    return DialRules(
        seconds=seconds, tls=tls, credentials=Credentials(username=address.username, password=secret),
        sentinel_credentials=Credentials(password=sentinel_password), database=address.database, on_reply=on_reply,
    )  # fmt: skip


async def dial(node: Node, rules: DialRules, *, on_lost: Callable[[Connection], object]) -> Connection:
    """Open a connection that has answered. Raises StoreDown, or OSError."""
    loop = asyncio.get_running_loop()
    connection: Connection | None = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                lambda: Connection(seconds=rules.seconds, on_lost=on_lost, on_reply=rules.on_reply),
                node.host, node.port, ssl=rules.tls, server_hostname=node.host if rules.tls is not None else None,
            )  # fmt: skip
            await _introduce(connection, rules)
    except BaseException:
        if connection is not None:
            connection.close("it could not be used")
        raise
    return connection


async def dial_master(
    address: RedisAddress, rules: DialRules, *, on_lost: Callable[[Connection], object]
) -> Connection:
    """Ask the Sentinels, one after the other, where the master is, and open a connection to it.

    Raises StoreDown when none of them knows one that says of itself that it is the master.
    """
    for sentinel in address.nodes:
        try:
            connection = await dial(await _master_of(sentinel, address.service, rules), rules, on_lost=on_lost)
        except (StoreDown, OSError):
            continue
        role = await connection.call(pack(("ROLE",)))
        if isinstance(role, list) and role and role[0] == b"master":
            return connection
        connection.close("it is no master")
    raise StoreDown("no Sentinel knows a master that answers")


async def _master_of(sentinel: Node, service: str, rules: DialRules) -> Node:
    bare = replace(rules, credentials=rules.sentinel_credentials, database=0, on_reply=None, seconds=CONNECT_SECONDS)
    connection = await dial(sentinel, bare, on_lost=lambda _: None)
    try:
        found = raised(await connection.call(pack(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service))))
    finally:
        connection.close("asked")
    if not isinstance(found, list) or len(found) != 2:
        raise StoreDown("the Sentinel knows no such service")
    return Node(found[0].decode(), int(found[1]))


async def _introduce(connection: Connection, rules: DialRules) -> None:
    """Say who we are, and hear one answer: a server that takes connections and answers nothing is not there."""
    commands: list[tuple[Word, ...]] = []
    who = rules.credentials
    if who.password is not None:
        commands.append(("AUTH", who.username, who.password) if who.username else ("AUTH", who.password))
    if rules.database:
        commands.append(("SELECT", rules.database))
    commands.append(("PING",))
    named = connection.call(pack(("CLIENT", "SETNAME", CLIENT_NAME)))
    replies = [raised(await reply) for reply in [connection.call(pack(command)) for command in commands]]
    _check(replies)
    await named  # Whether it may be named makes no difference.


def _check(replies: list[Reply]) -> None:
    if replies[-1] not in (b"PONG", "PONG"):
        raise Refused("PROTOCOL it does not answer PING")
