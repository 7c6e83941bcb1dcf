"""CachePolicy: which answers of models are kept, for whom, and for how long."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from capstan_contract.caches import (
    MOST_ENTRIES,
    MOST_ENTRY_BYTES,
    MOST_MEMORY_BYTES,
    MOST_NEIGHBOURS,
    MOST_SEMANTIC_ENTRIES,
    MOST_TTL_SECONDS,
    Compression,
    Scope,
)
from capstan_contract.limits import Mode
from capstan_operator.api.parts import Condition, SecretKeyRef
from capstan_operator.api.patterns import CHILD_NAME, HEADER_NAME, SHARE, TEMPERATURE
from capstan_operator.api.policies import AncestorStatus, PolicyMetadata, PolicySpec, TargetSelector
from capstan_operator.api.rules import caches, targets
from capstan_operator.api.schema import Part, Rule, bounded_list, listed_by

Share = Annotated[str, StringConstraints(min_length=1, max_length=8, pattern=SHARE)]
"""A decimal number from 0 to 1 in a string: floats do not survive every client of the API."""


class CacheModelRef(Part):
    """An LLMModel of the namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=52, pattern=CHILD_NAME)]
    """Name of the LLMModel."""


class CacheMemorySpec(Part):
    """What each gateway replica keeps in its memory."""

    maxBytes: int = Field(default=64 * 1024**2, ge=1024**2, le=MOST_MEMORY_BYTES)
    """Bytes that entries may take there, of each replica. Those that were used longest ago go first. All policies
    together have a quarter of the gateway's memory budget, whatever this says."""
    maxEntries: int = Field(default=10_000, ge=1, le=MOST_ENTRIES)
    """Entries that may be there."""


class CacheRedisSpec(Part):
    """What replicas share in the install's Redis."""

    enabled: bool = True
    """Whether entries are shared. Where the gateway has no Redis they are kept in memory alone, and the status says
    so."""
    maxEntryBytes: int = Field(default=1024**2, ge=1024, le=MOST_ENTRY_BYTES)
    """Bytes of an entry as it is written; larger ones are kept in memory alone."""
    compression: Compression = Field(default=Compression.ZLIB, strict=False)
    """How entries are made smaller before they are written."""
    encryptionKeyRef: SecretKeyRef | None = None
    """A key of a Secret of the policy's namespace whose value seals entries (AES-256-GCM): who can read Redis, or write
    into it, can neither read answers nor make some up. At least 16 bytes of printable ASCII."""

    rules: ClassVar[tuple[Rule, ...]] = caches.REDIS


class CacheEmbeddingSpec(Part):
    """What makes the vectors of questions."""

    modelRef: CacheModelRef
    """An LLMModel of task embed of the namespace."""


class CacheSemanticSpec(Part):
    """Answers to questions that mean the same, though they are worded otherwise. Only the last turn is compared: all
    else of a request must be the very same. The gateway does it in its own process, for questions in English."""

    enabled: bool = False
    """Whether such answers are given."""
    errorBudget: Share | None = None
    """Share of its hits that may be wrong, as a decimal number in a string. The threshold is the one that was measured
    to keep it, and the tier turns itself off when what it measures says that it is not kept. Default: "0.01"."""
    similarity: Share | None = None
    """Least cosine of a hit, in place of the threshold that follows from `errorBudget`. The tier still turns itself off
    where more than 0.01 of its hits are wrong."""
    verify: bool = True
    """Whether pairs are refused that differ in numbers, units, dates, negation, names, identifiers, code and the like,
    however similar they are."""
    topK: int = Field(default=5, ge=1, le=MOST_NEIGHBOURS)
    """Neighbours that are looked at."""
    maxEntries: int = Field(default=100_000, ge=1, le=MOST_SEMANTIC_ENTRIES)
    """Entries that each replica can find so: up to 4 KB of memory each, beside the gateway's memory budget; with an
    `embedding` that has larger vectors there are fewer in that."""
    sampleRate: Share | None = None
    """Share of its hits that the model is asked all the same, behind the client's back, to compare: it costs that share
    of what it saves. Default: "0.02"."""
    judgeRef: CacheModelRef | None = None
    """An LLMModel of task chat that compares two answers. Default: their vectors are compared."""

    embedding: CacheEmbeddingSpec | None = None
    """A model that makes the vectors of questions, in place of the packaged one that the gateway runs itself. Nobody
    has measured its vectors, so `similarity` must say what is alike. Replicas do not share these questions."""

    rules: ClassVar[tuple[Rule, ...]] = caches.SEMANTIC


class CacheHeaderSpec(Part):
    """A header of a request."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=HEADER_NAME)]
    """Its name, in lower case."""
    values: tuple[Annotated[str, StringConstraints(min_length=1, max_length=256)], ...] = bounded_list(16)
    """The values that count. Default: any."""


class CacheBypassSpec(Part):
    """Which requests the cache has nothing to do with: they are asked, and their answers are not kept."""

    temperatureAbove: Annotated[str, StringConstraints(min_length=1, max_length=6, pattern=TEMPERATURE)] | None = None
    """Requests with a temperature above this, as a decimal number in a string; one that says none counts as 1. Default:
    whatever the temperature."""
    tools: bool = True
    """Requests that offer tools."""
    headers: tuple[CacheHeaderSpec, ...] = bounded_list(16, json_schema_extra=listed_by("name"))
    """Requests with one of these headers."""


# NB: put together out here, because in the class some of the names are fields.
_SPEC_RULES = (*targets.SPEC,)


class CachePolicySpec(PolicySpec):
    """What the user wants. At most one policy is in force on a model, and one more may be tried in mode Shadow."""

    targetSelector: TargetSelector | None = None
    """Labels of the LLMModels that it is for, of its own namespace, in place of `targetRefs`. A policy of the namespace
    that Capstan is installed in, and no other, may have neither: it is for all models of all namespaces that have no
    policy of their own."""
    mode: Mode = Field(default=Mode.ENFORCE, strict=False)
    """Enforce: answers that are there are given. Shadow: every request is asked, and what would have been there is
    counted."""
    scope: Scope = Field(default=Scope.TENANT, strict=False)
    """Whose requests one answer may be given to. Tenant: all of the same tenant. User: the same user of the same
    tenant. Model: everybody who may use the model, so that one can tell by the time what somebody else has asked. What
    a guard has redacted is for the same user alone, whatever this says."""
    ttlSeconds: int = Field(default=3600, ge=1, le=MOST_TTL_SECONDS)
    """Seconds that an answer is kept for, from when it was asked; a hit prolongs nothing."""
    memory: CacheMemorySpec = CacheMemorySpec()
    """What each gateway replica keeps in its memory."""
    redis: CacheRedisSpec = CacheRedisSpec()
    """What replicas share."""
    semantic: CacheSemanticSpec = CacheSemanticSpec()
    """Answers to questions that mean the same."""
    bypass: CacheBypassSpec = CacheBypassSpec()
    """Which requests the cache has nothing to do with."""
    honourCacheControl: bool = True
    """Whether `Cache-Control` of requests is done as it says: no-cache, no-store, max-age, only-if-cached."""

    rules: ClassVar[tuple[Rule, ...]] = _SPEC_RULES


class FalseHitsStatus(Part):
    """How often answers to questions that mean the same were other answers than the model gives."""

    sampled: int = Field(ge=0)
    """Hits that were compared."""
    wrong: int = Field(ge=0)
    """Those of them that were another answer."""
    rate: Annotated[str, StringConstraints(max_length=8)]
    """Their share."""
    low: Annotated[str, StringConstraints(max_length=8)]
    """Where it is at least, with 95% (Wilson's interval)."""
    high: Annotated[str, StringConstraints(max_length=8)]
    """Where it is at most."""


class CachedStatus(Part):
    """What the cache has done in its mode, as the gateway's replicas have said last; in mode Shadow, what it would
    have. Written now and then, not at once."""

    observedTime: Annotated[str, StringConstraints(max_length=64), Field(json_schema_extra={"format": "date-time"})]
    """When they said so."""
    since: Annotated[str, StringConstraints(max_length=64), Field(json_schema_extra={"format": "date-time"})]
    """From when on it is counted. Replicas that are gone count with what they have said last."""
    mode: Mode = Field(default=Mode.ENFORCE, strict=False)
    """The mode that it was counted in: another one begins at nothing, but for `falseHits`."""
    hits: int = Field(default=0, ge=0)
    """Requests that were answered out of the cache."""
    misses: int = Field(default=0, ge=0)
    """Requests that were looked for, and asked."""
    hitPercent: int = Field(default=0, ge=0, le=100)
    """Share of the hits among both."""
    memoryHits: int = Field(default=0, ge=0)
    """Hits in the memory of a gateway replica, and requests that waited for the answer to one that was under way."""
    redisHits: int = Field(default=0, ge=0)
    """Hits in Redis."""
    semanticHits: int = Field(default=0, ge=0)
    """Answers to questions that mean the same."""
    bypassed: int = Field(default=0, ge=0)
    """Requests that the cache had nothing to do with."""
    savedTokens: int = Field(default=0, ge=0)
    """Tokens of the answers that were given again."""
    savedDollars: Annotated[str, StringConstraints(max_length=32)] = "0"
    """Their price, where models have one."""
    shared: bool = False
    """Whether the gateway has a Redis that its replicas share answers in."""
    redisDown: int = Field(default=0, ge=0)
    """Gateway replicas that Redis does not answer now."""
    entries: int = Field(default=0, ge=0)
    """Answers in the memories of the replicas, those that several of them keep each time."""
    bytes: int = Field(default=0, ge=0)
    """What they take there."""
    semanticOff: bool = False
    """Whether answers to questions that mean the same are given no more, because too many were wrong."""
    falseHits: FalseHitsStatus | None = None
    """What was measured of them."""


class CachePolicyStatus(Part):
    """What is."""

    observedGeneration: int | None = Field(default=None, ge=0)
    """The newest generation that the operator has dealt with."""
    conditions: tuple[Condition, ...] = bounded_list(8, json_schema_extra=listed_by("type"))
    """Accepted, Programmed: those of the ancestor, where `kubectl wait` looks for them. Shared: whether replicas share
    answers, where they are to. SemanticHealthy: whether answers to questions that mean the same are given."""
    models: int | None = Field(default=None, ge=0)
    """LLMModels that it is in force on."""
    ancestors: tuple[AncestorStatus, ...] = bounded_list(16)
    """The gateway, and what the policy comes to there."""
    cached: CachedStatus | None = None
    """What it has done."""


class CachePolicy(Part):
    """Which answers of models are kept and given again, to whom, and for how long."""

    apiVersion: Literal["capstan.dev/v1alpha1"] = "capstan.dev/v1alpha1"
    """Version of this schema."""
    kind: Literal["CachePolicy"] = "CachePolicy"
    """Kind of the resource."""
    metadata: PolicyMetadata
    """Standard metadata of the object."""
    spec: CachePolicySpec
    """What the user wants."""
