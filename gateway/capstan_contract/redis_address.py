"""Where a Redis is, read from its URL: one server, one found through Sentinels, or a Redis Cluster.

    redis://[USER:PASSWORD@]HOST[:6379][/NUMBER]
    redis+sentinel://[USER:PASSWORD@]HOST[:26379],HOST2.../NAME[/NUMBER]      NAME: what the Sentinels call the service
    redis+cluster://[USER:PASSWORD@]HOST[:6379],HOST2...                      some nodes; the others are found

`rediss` in place of `redis` means TLS everywhere. User and password are of Redis itself, not of the Sentinels.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
MOST_PORT: Final = 65535
MOST_NODES: Final = 32
FORMS: Final = (
    "must be redis://HOST:PORT/NUMBER, redis+sentinel://HOST:PORT,HOST:PORT/NAME/NUMBER or "
    "redis+cluster://HOST:PORT,HOST:PORT; rediss in place of redis is TLS"
)
_URL: Final = re.compile(
    r"(?P<scheme>rediss?)(?:\+(?P<kind>sentinel|cluster))?://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?"
    r"(?P<nodes>[^@/?#\s]+)(?P<path>/[^?#\s]*)?"
)
_NODE: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_NUMBER: Final = re.compile(r"[0-9]{1,5}")


class Kind(StrEnum):
    """How the server is found that a call goes to."""

    ONE = "one"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Node:
    """A host and a port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """A URL of a Redis, taken apart."""

    kind: Kind
    nodes: tuple[Node, ...]
    """The server; the Sentinels; some nodes of the cluster."""
    tls: bool
    username: str | None
    password: str | None = field(repr=False)
    database: int
    service: str
    """What Sentinels call it; empty for the other kinds."""


def read_address(url: str) -> RedisAddress:
    """Take a URL apart; ValueError, which does not repeat it, when it has none of the forms.

    Options behind a question mark are not taken: some of them turn the checks of certificates off.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(FORMS)
    kind = Kind(found["kind"] or "one")
    nodes = tuple(_node(text, SENTINEL_PORT if kind is Kind.SENTINEL else DEFAULT_PORT) for text in _split(found))
    if len(nodes) > MOST_NODES or (kind is Kind.ONE and len(nodes) != 1):
        raise ValueError(FORMS)
    service, database = _path(kind, found["path"] or "")
    return RedisAddress(
        kind=kind, nodes=nodes, tls=found["scheme"] == "rediss", username=unquote(found["user"] or "") or None,
        password=unquote(found["password"] or "") or None, database=database, service=service,
    )  # fmt: skip


def read_redis_url(text: str) -> str:
    """Give the URL of a Redis as it is; ValueError when `read_address` cannot take it apart."""
    read_address(text)
    return text


def _split(found: re.Match[str]) -> list[str]:
    return found["nodes"].split(",")


def _node(text: str, port: int) -> Node:
    found = _NODE.fullmatch(text)
    if found is None:
        raise ValueError(FORMS)
    number = int(found["port"] or port)
    if not 1 <= number <= MOST_PORT:
        raise ValueError(FORMS)
    return Node(found["v6"] or found["host"], number)


def _path(kind: Kind, path: str) -> tuple[str, int]:
    """Give the service's name and the number of the database."""
    parts = path.split("/")[1:] if path not in ("", "/") else []
    service = ""
    if kind is Kind.SENTINEL:
        if not parts or not _NAME.fullmatch(parts[0]):
            raise ValueError(FORMS)
        service, parts = parts[0], parts[1:]
    if kind is Kind.CLUSTER or len(parts) > 1:
        if parts:
            raise ValueError(FORMS)
    elif parts and not _NUMBER.fullmatch(parts[0]):
        raise ValueError(FORMS)
    return service, int(parts[0]) if parts else 0
