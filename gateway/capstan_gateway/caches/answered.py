"""Which answers came out of a cache or went into one, by the ids that their clients were given. Pure, but for the port.

    the id of a request    `x-request-id` of its answer, whoever has made it up
    the id of an answer    `id` of its document, without the prefix that a dialect gives it

An id is known to the tenant that it was given to, for half an hour, while it is one of the newest of the process. With
Redis replicas tell each other; see `RedisIds`.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import StrEnum
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from capstan_gateway.caches.port import CacheKey
from capstan_gateway.caches.purges import read_key

KEPT_MS: Final = 1800 * 1000
"""How long an id is known."""
MOST: Final = 10_000
"""Ids that a process knows: some 3 MB."""
MOST_LENGTH: Final = 128
"""Characters of an id; a longer one is not remembered."""
_PREFIXES: Final = ("chatcmpl-", "msg_", "resp_")


class Of(StrEnum):
    """Whose id it is."""

    REQUEST = "request"
    ANSWER = "answer"


class Told(NamedTuple):
    """What is known of an id."""

    key: CacheKey
    """Under which the answer is kept, or was."""
    similarity: float | None = None
    """Of a hit by meaning."""
    reported: bool = False
    """Whether it was said already that the answer was wrong."""
    everywhere: bool = False
    """Whether all replicas have heard of that."""

    def write(self) -> bytes:
        """Give the same as bytes."""
        alike = "" if self.similarity is None else f"{self.similarity:.6f}"
        return f"{int(self.reported)} {alike} {self.key.text}".encode()


def read_told(data: bytes) -> Told | None:
    """Read such bytes; None where they are none, such as those of a newer release."""
    reported, _, rest = data.decode("ascii", "replace").partition(" ")
    alike, _, text = rest.partition(" ")
    key = read_key(text)
    try:
        similarity = float(alike) if alike else None
    except ValueError:
        return None
    return (
        None if key is None or reported not in ("0", "1") else Told(key, similarity, reported == "1", reported == "1")
    )


class Name(NamedTuple):
    """What an id is known by."""

    of: str
    tenant: str
    """The partition of all that is the tenant's."""
    id: str

    @property
    def digest(self) -> str:
        """The same as a text that tells nothing, for stores."""
        return blake2b("\0".join(self).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def name_of(of: Of, id: str, tenant: str) -> Name:
    """Give what an id is known by: one answer has another prefix in each dialect."""
    if of is Of.ANSWER and id.startswith(_PREFIXES):
        id = next(id.removeprefix(one) for one in _PREFIXES if id.startswith(one))
    return Name(of.value, tenant, id)


class SharedIds(Protocol):
    """What replicas tell each other of ids."""

    def write(self, name: Name, told: Told) -> None:
        """Tell, soon; never raises. What cannot be told is known here alone."""
        ...

    async def read(self, name: Name) -> Told | None:
        """Ask; raises StoreDown."""
        ...


class Answered:
    """The ids of one process."""

    def __init__(self, *, now_ms: Callable[[], int], shared: SharedIds | None = None, most: int = MOST) -> None:
        self._now_ms: Final = now_ms
        self._shared: Final = shared
        self._most: Final = most
        self._known: OrderedDict[Name, tuple[int, Told]] = OrderedDict()
        """By name, the oldest first: when it was noted, and what."""

    def __len__(self) -> int:
        return len(self._known)

    def note(self, of: Of, id: str, tenant: str, told: Told, *, shares: bool) -> None:
        """Remember an id. `shares`: whether other replicas give this answer, too."""
        if not 0 < len(id) <= MOST_LENGTH:
            return
        name, now = name_of(of, id, tenant), self._now_ms()
        before = self._known.get(name)
        is_told = before is not None and before[1].key == told.key and now - before[0] < KEPT_MS // 2
        if of is Of.ANSWER and is_told:
            return  # NB: it is one id for all who get the answer, and need not be told with each of them.
        self._put(name, now, told)
        if shares and self._shared is not None:
            self._shared.write(name, told)

    async def find(self, of: Of, id: str, tenants: Iterable[str], *, shares: bool) -> tuple[Name, Told] | None:
        """Give what is known of an id to one who goes by one of these partitions, and under which name. `shares`:
        whether others may know of it. Raises StoreDown where they cannot be asked."""
        names = [name_of(of, id, tenant) for tenant in tenants]
        for name in names:
            found = self._known.get(name)
            if found is not None and self._now_ms() - found[0] < KEPT_MS:
                return name, found[1]
        for name in names if shares and self._shared is not None else ():
            told = await self._shared.read(name) if self._shared is not None else None
            if told is not None:
                return name, told
        return None

    def reported(self, name: Name, told: Told, *, everywhere: bool) -> None:
        """Have it be known that this answer was said to be wrong: it is not evicted once more when that is repeated."""
        after = told._replace(reported=True, everywhere=everywhere)
        self._put(name, self._now_ms(), after)
        if everywhere and self._shared is not None:
            self._shared.write(name, after)

    def _put(self, name: Name, now: int, told: Told) -> None:
        self._known[name] = now, told
        self._known.move_to_end(name)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
