"""What a CachePolicy comes to in the gateway config: the `body` of its `PolicyEntry`; and what gateways say of caches.

    a request ─► the key of what it asks, in the partition of who asks ─► memory ─► Redis ─► alike (if that is on)

Money is whole nano-dollars, time is whole seconds or milliseconds: nothing is a float that is added up.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from pydantic import Field, model_validator

from capstan_contract.entries import Document, PolicyEntry, PolicyTargets, is_empty, is_none
from capstan_contract.limits import Mode

CACHE_KIND: Final = "CachePolicy"
MOST_TTL_SECONDS: Final = 30 * 86_400
MOST_MEMORY_BYTES: Final = 64 * 1024**3
MOST_ENTRIES: Final = 10_000_000
MOST_ENTRY_BYTES: Final = 16 * 1024**2
MOST_SEMANTIC_ENTRIES: Final = 1_000_000
MOST_NEIGHBOURS: Final = 50
CACHE_EMBEDDING: Final = "cacheEmbedding"
"""What a reader must know: vectors of questions are a model's (`SemanticTier.embedding`)."""
LEAST_SEALING_BYTES: Final = 16
"""Of what entries are sealed with."""


class Scope(StrEnum):
    """Whose requests one answer may be given to."""

    TENANT = "Tenant"
    USER = "User"
    """Of a tenant."""
    MODEL = "Model"
    """Everybody who may use the model."""


class Compression(StrEnum):
    """How entries are made smaller before they are written into Redis."""

    NONE = "None"
    ZLIB = "Zlib"


class MemoryTier(Document):
    """What each gateway replica keeps itself."""

    maxBytes: int = Field(default=64 * 1024**2, ge=1024**2, le=MOST_MEMORY_BYTES)
    maxEntries: int = Field(default=10_000, ge=1, le=MOST_ENTRIES)


class RedisTier(Document):
    """What replicas share."""

    maxEntryBytes: int = Field(default=1024**2, ge=1024, le=MOST_ENTRY_BYTES)
    """Of an entry as it is written; larger ones are kept in memory alone."""
    compression: Compression = Compression.ZLIB


class SemanticTier(Document):
    """Answers to questions that mean the same. Exactly one of `errorBudget` and `similarity` decides."""

    errorBudget: float = Field(default=0.01, gt=0, le=0.2)
    """Share of its hits that may be wrong: the threshold is the one that was measured to keep it."""
    similarity: float | None = Field(default=None, gt=0, le=1, exclude_if=is_none)
    """Least cosine of a hit, in place of the one that follows from `errorBudget`."""
    verify: bool = True
    """Whether pairs are refused that differ in numbers, negation, names, code and the like."""
    topK: int = Field(default=5, ge=1, le=MOST_NEIGHBOURS)
    maxEntries: int = Field(default=100_000, ge=1, le=MOST_SEMANTIC_ENTRIES)
    sampleRate: float = Field(default=0.02, ge=0, le=1)
    """Share of its hits that the model is asked all the same, to compare."""
    judge: str | None = Field(default=None, exclude_if=is_none)
    """Id of the model that compares two answers; None: their vectors do."""
    embedding: str | None = Field(default=None, exclude_if=is_none)
    """Id of the model that makes the vectors of questions; None: the gateway does. Needs `similarity`."""


class HeaderMatch(Document):
    """A header of a request: with one of these values, or any."""

    name: str
    """In lower case."""
    values: tuple[str, ...] = Field(default=(), exclude_if=is_empty)


class Bypass(Document):
    """Which requests the cache has nothing to do with."""

    temperatureAbove: float | None = Field(default=None, ge=0, le=2, exclude_if=is_none)
    """None: whatever the temperature."""
    tools: bool = True
    """Those that offer tools."""
    headers: tuple[HeaderMatch, ...] = Field(default=(), exclude_if=is_empty)


class CacheBody(Document):
    """A CachePolicy as the gateway enforces it."""

    mode: Mode = Mode.ENFORCE
    scope: Scope = Scope.TENANT
    ttlSeconds: int = Field(default=3600, ge=1, le=MOST_TTL_SECONDS)
    """From when an answer is stored; a hit prolongs nothing."""
    memory: MemoryTier = MemoryTier()
    redis: RedisTier | None = Field(default=None, exclude_if=is_none)
    """None: nothing is shared."""
    semantic: SemanticTier | None = Field(default=None, exclude_if=is_none)
    """None: only the very same requests hit."""
    bypass: Bypass = Bypass()
    honourCacheControl: bool = True
    """Whether `Cache-Control` of requests is done as it says."""
    encryptionFile: str | None = Field(default=None, exclude_if=is_none)
    """Name of a file in the gateway's credentials directory with the key that entries in Redis are encrypted with;
    None: they are not."""

    @model_validator(mode="after")
    def _key_has_a_use(self) -> "CacheBody":
        if self.encryptionFile is not None and self.redis is None:
            raise ValueError("`encryptionFile` is for entries in Redis, and `redis` is not set")
        return self


def read_cache_body(entry: PolicyEntry) -> CacheBody:
    """Read the body of an entry, tolerantly: fields that a newer operator has written are ignored."""
    return check_cache_body(entry.body)


def check_cache_body(body: Mapping[str, Any]) -> CacheBody:
    """Do the same with the body itself."""
    return CacheBody.model_validate(body, extra="ignore")


def cache_policy_id(namespace: str, name: str) -> str:
    """Give the id of the entry of a CachePolicy."""
    return f"{CACHE_KIND}/{namespace}/{name}"


def cache_entry(
    namespace: str, name: str, body: CacheBody, *, uid: str = "", targets: PolicyTargets | None = None
) -> PolicyEntry:
    """Make the entry of a policy."""
    written = body.model_dump(mode="json", exclude_defaults=True)
    # NB: a reader that does not know of it would compare its own vectors by a similarity that is not of these.
    needs = (CACHE_EMBEDDING,) if body.semantic is not None and body.semantic.embedding is not None else ()
    return PolicyEntry(
        id=cache_policy_id(namespace, name), kind=CACHE_KIND, uid=uid, targets=targets, requires=needs, body=written
    )


class CacheCounts(Document):
    """What one policy has done in its mode since its gateway replica began. In mode Shadow: what it would have done."""

    mode: Mode = Mode.ENFORCE
    memoryHits: int = Field(default=0, ge=0)
    redisHits: int = Field(default=0, ge=0)
    semanticHits: int = Field(default=0, ge=0)
    misses: int = Field(default=0, ge=0)
    bypassed: int = Field(default=0, ge=0)
    stored: int = Field(default=0, ge=0)
    savedTokens: int = Field(default=0, ge=0)
    savedNanoDollars: int = Field(default=0, ge=0)
    entries: int = Field(default=0, ge=0)
    """In memory now."""
    bytes: int = Field(default=0, ge=0)
    """In memory now."""
    redisDown: bool = False
    """Whether Redis does not answer now."""
    sampled: int = Field(default=0, ge=0)
    """Semantic hits that were compared with what the model says: of all replicas where they share Redis."""
    wrong: int = Field(default=0, ge=0)
    """Those of them that were another answer."""
    semanticOff: bool = False
    """Whether the semantic tier has turned itself off: it was wrong more often than it may be."""


class CachesReport(Document):
    """What a gateway replica says at /internal/caches."""

    since: int
    """Unix seconds: when the replica began to count."""
    shared: bool
    """Whether there is a Redis that replicas share."""
    policies: dict[str, CacheCounts] = Field(default_factory=dict)
    """Those that are in force, by the id of their entries."""
