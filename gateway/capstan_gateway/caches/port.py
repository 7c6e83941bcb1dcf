"""What a cache keeps, and what it gives back."""

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from capstan_gateway.tokens.usage import Usage

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

OWN_BYTES: Final = 1024
"""What an entry takes in memory beside its texts: its key, the objects around it, its place among the others. Measured:
940 to 970 bytes of resident memory for an entry of its own tenant (bench/caches.py)."""


class Tier(StrEnum):
    """Where an answer was found."""

    MEMORY = "memory"
    REDIS = "redis"
    SEMANTIC = "semantic"


class Form(StrEnum):
    """What the bytes of an entry are."""

    ANSWER = "answer"
    """The document of the whole answer as the route's engines give it: a chat completion, a list of embeddings."""
    NATIVE = "native"
    """The same in the dialect of the client."""
    NATIVE_STREAM = "native-stream"
    """The events of a stream in the dialect of the client."""
    EMBEDDING = "embedding"
    """What an answer says of one input of a request for embeddings, without its place among others."""


class CacheKey(NamedTuple):
    """What an entry is kept under. Two requests with one key get one answer."""

    partition: str
    """Who may be given it: a digest, which is part of every key in every tier. Nothing is found across partitions."""
    model: str
    """A digest of the id of the model: what is purged by model is found by it."""
    digest: bytes
    """Of the model's identity, of the guards in force, and of everything that is asked: 32 bytes."""

    @property
    def text(self) -> str:
        """The same as a text, for stores and for clients: it says nothing to who does not know the request."""
        return f"{self.partition}.{self.model}.{self.digest.hex()}"


class Entry(NamedTuple):
    """One answer."""

    form: Form
    body: bytes
    content_type: bytes
    created_ms: int
    """Unix time. What was stored before a purge that is about it is not there any more."""
    expires_ms: int
    usage: Usage | None = None
    """What it took to make it, as it was settled; None: nobody knows."""
    nano_dollars: int | None = None
    """What that cost; None: nobody has said what the model's tokens cost."""
    question: str = ""
    """What was asked, of entries that are found by what they mean: it is compared again at each hit."""
    id: str = ""
    """Of the answer, as its document says it; empty where it says none that is short."""

    @property
    def size(self) -> int:
        """How many bytes it is counted as in memory."""
        return len(self.body) + 4 * len(self.question) + OWN_BYTES


class Found(NamedTuple):
    """An entry, and how it was found."""

    entry: Entry
    tier: Tier
    key: CacheKey
    similarity: float | None = None
    """Of what is asked to what was asked: in the tier that compares; None where it is the same."""


class Lease(Protocol):
    """The right to make an answer that is not there, among replicas. It lapses by itself when nobody renews it."""

    def release(self) -> None:
        """Give it back, soon: who waits finds what was stored, or asks for itself. Twice is harmless; never raises."""
        ...


class Looked(NamedTuple):
    """What a look into a shared store has brought."""

    entry: Entry | None = None
    lease: Lease | None = None
    """Set: this replica makes the answer. None with no entry: another one does just now, or nobody can say."""
    waits: bool = False
    """Whether another replica makes it just now."""


class SharedEntries(Protocol):
    """Entries that replicas share. No call raises: a store that is down has nothing, and takes nothing."""

    @property
    def is_down(self) -> bool:
        """Whether the store does not answer, as far as is known."""
        ...

    async def look(self, key: CacheKey, *, lease: bool) -> Looked:
        """Look for an entry; where it is not there, take the lease of it, if that is wanted and nobody has it."""
        ...

    async def find(self, keys: Sequence[CacheKey]) -> Sequence[Entry | None]:
        """Look for many at once, of one partition, and take no lease; in their order."""
        ...

    async def put(self, key: CacheKey, entry: Entry) -> None:
        """Write an entry."""
        ...

    async def put_all(self, entries: Sequence[tuple[CacheKey, Entry]]) -> None:
        """Write many at once, of one partition."""
        ...

    async def drop(self, keys: Sequence[CacheKey]) -> None:
        """Delete entries that turned out to be of no use."""
        ...


class Vectored(NamedTuple):
    """The vector of a text, of length 1."""

    vector: "NDArray[numpy.float32]"
    of: str
    """What has made it: those of two makers are not comparable."""


VectorOf = Callable[[str, str], Awaitable[Vectored]]
"""Gives the vector of a text, to one whose it is; raises when there is none."""


class Alike(NamedTuple):
    """What is asked, for who looks for what means the same: everything but the last turn must be the very same."""

    partition: str
    """A digest of who asks, whom, and of all that is said but for the last turn."""
    text: str
    """The last turn."""
    least: float = 0.0
    """The client takes nothing that is less similar."""
    vector_of: VectorOf | None = None
    """How to get its vector, where a model makes it."""


class AlikeEntries(Protocol):
    """Entries that are found by what they mean. No call raises: who cannot tell has nothing."""

    async def find(self, alike: Alike) -> Found | None:
        """Give the entry that answers this as well; None when none surely does."""
        ...

    async def put(self, alike: Alike, key: CacheKey, entry: Entry) -> None:
        """Have an entry found from now on. What it holds is bounded."""
        ...

    def drop(self, key: CacheKey) -> bool:
        """Forget an entry; False when it is not there. At once, however many there are."""
        ...

    def keys(self) -> Sequence[CacheKey]:
        """Give those of all entries that are found now."""
        ...

    def close(self) -> None:
        """Learn of nothing any more: the policy is gone, or is another one now."""
        ...
