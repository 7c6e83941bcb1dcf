"""The compiled gateway config: the one document that the operator writes and every gateway replica runs.

The writer is strict (`extra="forbid"`), the reader is tolerant: a gateway that is one release older than the operator
ignores fields that it does not know. What it must not ignore is said by `requires`: a reader refuses an entry with a
requirement that it does not know, rather than serving it without (see `reading`).

The same models always compile to the same bytes: entries are sorted, keys are sorted, there is no clock in it. `hash`
is the SHA-256 of the canonical JSON of everything else, so two documents with one hash are the same config. Nothing is
in it that changes nothing for a gateway: a generation, for one (the operator's ledger knows which a hash stands for).

A config larger than one ConfigMap is split into shards (see `sharding`); the main document is then a `ConfigIndex` that
names them. Entries are sorted by the hash of their ids, so that the models of a shard are a slice of the config's.
"""

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from capstan_contract.entries import Document, Entry, PolicyEntry, canonical, is_empty, is_none, spread
from capstan_contract.evaluation import Evaluation
from capstan_contract.keys import KeyEntry
from capstan_contract.names import canary_id

SchemaVersion = Literal[1, 2]
SCHEMA_VERSIONS: Final = (1, 2)
"""Those that this release reads. Version 2 says that something in the config requires something: a reader of the first
release, which knows no `requires`, refuses it as a whole. A config that requires nothing is of version 1."""
MAX_HOST_LABEL: Final = 63


class ConfigError(Exception):
    """A gateway config that cannot be used; the message says where and why, and holds no secret."""


class ConfigTooLargeError(ConfigError):
    """A gateway config that does not fit into the documents that it may have."""


def _check_url(url: str) -> str:
    """Refuse what a gateway could not connect to without an error of another kind; the message holds no value."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a URL: its host or its port cannot be") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError("must be an http or https URL with a host, and a port from 1 to 65535 if any")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("must be a URL of printable ASCII characters without spaces")
    if not all(0 < len(part) <= MAX_HOST_LABEL for part in host.removesuffix(".").split(".")):
        raise ValueError(f"the parts of a URL's host must have 1 to {MAX_HOST_LABEL} characters")
    return url


BaseUrl = Annotated[str, AfterValidator(_check_url)]


class Task(StrEnum):
    """What a model does; the values are those of `spec.model.task`."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBED = "embed"
    CLASSIFY = "classify"
    SCORE = "score"
    TRANSCRIBE = "transcribe"
    """Sound to text. An entry that says so requires TRANSCRIPTIONS: readers from before it know no such task."""


class Capability(StrEnum):
    """What a chat model can do beyond text in, text out."""

    TOOLS = "Tools"
    VISION = "Vision"
    AUDIO = "Audio"
    JSON_SCHEMA = "JSONSchema"
    REASONING = "Reasoning"


class Provider(StrEnum):
    """Who answers for an external model, and so which dialect the gateway speaks to it."""

    OPENAI = "OpenAI"
    OPENAI_COMPATIBLE = "OpenAICompatible"
    ANTHROPIC = "Anthropic"


class Strategy(StrEnum):
    """How a router chooses among its members."""

    CHEAPEST = "Cheapest"
    FASTEST = "Fastest"
    WEIGHTED = "Weighted"
    PRIORITY = "Priority"


class StickyBy(StrEnum):
    """Whose requests a weighted router keeps with one member."""

    NONE = "None"
    USER = "User"
    SESSION = "Session"


class EstimatorType(StrEnum):
    """How a cascade tells the quality of an answer."""

    JUDGE = "Judge"
    LOG_PROBABILITY = "LogProbability"
    CHECKS = "Checks"
    ENSEMBLE = "Ensemble"


class Dispatch(StrEnum):
    """Which way a request comes to an engine."""

    AUTO = "Auto"
    """Directly as long as a ready endpoint has a free place, else by the queue."""
    DIRECT = "Direct"
    QUEUE = "Queue"


class SystemMessages(StrEnum):
    """What becomes of system and developer messages behind the first of a conversation."""

    FIRST = "First"
    AS_USER = "AsUser"
    ANYWHERE = "Anywhere"


class ReasoningHistory(StrEnum):
    """Whether a model gets back what it thought in earlier turns."""

    PASS = "Pass"  # noqa: S105
    DROP = "Drop"


class MaxTokens(StrEnum):
    """What becomes of a request for more tokens than a model may answer with."""

    CLAMP = "Clamp"
    REFUSE = "Refuse"


class HostedTools(StrEnum):
    """What becomes of tools that only a hosted API runs."""

    DROP = "Drop"
    REFUSE = "Refuse"


class ToolIds(StrEnum):
    """Which ids of tool calls a model takes."""

    OPENAI = "OpenAI"
    MISTRAL = "Mistral"
    KIMI = "Kimi"


class Compatibility(Document):
    """How requests are written for a model that does not take all that clients say. None: as its kind of backend."""

    systemMessages: SystemMessages | None = Field(default=None, exclude_if=is_none)
    reasoningHistory: ReasoningHistory | None = Field(default=None, exclude_if=is_none)
    maxTokens: MaxTokens | None = Field(default=None, exclude_if=is_none)
    hostedTools: HostedTools | None = Field(default=None, exclude_if=is_none)
    toolIds: ToolIds | None = Field(default=None, exclude_if=is_none)


class PriceTier(Document):
    """US dollars per million tokens of requests whose input, cached or not, is larger than so many tokens: of all of
    their tokens. None: as below it."""

    aboveInputTokens: int = Field(ge=1)
    inputPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    cachedInputPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    cacheWritePerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    cacheWriteHourPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    audioInputPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    outputPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    reasoningPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    audioOutputPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)


class Price(Document):
    """US dollars per million tokens, and per minute of sound. Readers from before a field reckon without it."""

    inputPerMillion: float = Field(default=0.0, ge=0)
    cachedInputPerMillion: float | None = Field(default=None, ge=0)
    """None: a cached input token costs as much as any other input token."""
    cacheWritePerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    """Input tokens that the engine writes into a cache. None: they cost as much as any other input token."""
    cacheWriteHourPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    """Those that are kept for an hour. None: as others that are written into a cache."""
    audioInputPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    """None: as any other input token."""
    audioInputPerMinute: float | None = Field(default=None, ge=0, exclude_if=is_none)
    """US dollars for a minute of sound that is heard, beside what its tokens cost. None: nothing."""
    outputPerMillion: float = Field(default=0.0, ge=0)
    reasoningPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    """Output tokens that are thoughts. None: as any other output token."""
    audioOutputPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    """None: as any other output token."""
    tiers: tuple[PriceTier, ...] = Field(default=(), exclude_if=is_empty)
    """By `aboveInputTokens`, the lowest first."""

    @model_validator(mode="after")
    def _tiers_are_sorted(self) -> "Price":
        bounds = [tier.aboveInputTokens for tier in self.tiers]
        if any(low >= high for low, high in pairwise(bounds)):
            raise ValueError("`tiers` must be sorted by `aboveInputTokens`, each bound once")
        return self


class Timeouts(Document):
    """Deadlines of one request, in seconds."""

    firstTokenSeconds: float = Field(default=120.0, gt=0)
    """From dispatch to the first byte of the answer's body (of a stream: the first event)."""
    idleSeconds: float = Field(default=60.0, gt=0)
    """Between two pieces of one answer."""
    totalSeconds: float = Field(default=600.0, gt=0)
    """From the arrival of the request to the end of the answer."""


class ServiceBackend(Document):
    """A model that runs in the cluster: its endpoints are the ready ones of this Service's EndpointSlices."""

    kind: Literal["Service"] = "Service"
    namespace: str
    service: str
    portName: str


class StaticBackend(Document):
    """A model at fixed addresses: local mode."""

    kind: Literal["Static"] = "Static"
    urls: tuple[BaseUrl, ...]
    """Base URLs without the /v1, such as http://127.0.0.1:8000. Empty while the engine is not running."""
    workers: dict[BaseUrl, BaseUrl] = Field(default_factory=dict, exclude_if=is_empty)
    """Where the worker of an engine answers, by the engine's URL: of the models with `kvEvents`. Readers from before
    the field do not ask the workers."""


class ExternalEndpoint(Document):
    """One address of a hosted API."""

    name: str
    """Unique within the model; part of the key of all state about this endpoint."""
    url: BaseUrl
    """Base URL to which /chat/completions and the like are appended, such as https://api.openai.com/v1."""
    region: str = ""
    """Where it is, in the words of the gateway's --region; empty: nowhere in particular."""
    priority: int = Field(default=0, ge=0)
    """Lower ones first; the next ones while those fail or are full."""
    weight: int = Field(default=100, ge=0)
    """Share among endpoints of equal priority; 0 gets none."""
    credentialFile: str | None = None
    """Name of a file in the gateway's credentials directory (a key of the gateway's Secret)."""


class ExternalBackend(Document):
    """A hosted API, at one or several addresses."""

    kind: Literal["External"] = "External"
    provider: Provider
    endpoints: tuple[ExternalEndpoint, ...] = Field(min_length=1)
    """Sorted by priority, then name."""


class RouterMember(Document):
    """One model that a router may choose."""

    model: str
    """Id of a model of the same config that is not a router itself."""
    weight: int = Field(default=100, ge=0)
    """Share of the requests, for strategy Weighted; 0 gets none, and every weight may be 0."""
    priority: int = Field(default=0, ge=0)
    """Lower ones first, for strategy Priority."""


class RouterBackend(Document):
    """A virtual model: one of its members answers."""

    kind: Literal["Router"] = "Router"
    strategy: Strategy = Strategy.CHEAPEST
    stickyBy: StickyBy = StickyBy.USER
    """Used by strategy Weighted only."""
    members: tuple[RouterMember, ...] = Field(min_length=1)
    """Sorted by model."""


class CascadeEstimator(Document):
    """How the quality of an answer is told."""

    type: EstimatorType = EstimatorType.CHECKS
    judge: str | None = None
    """Id of the model that judges, which is not virtual. Not None when `type` is Judge."""
    judgeTimeoutSeconds: float = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _judge_is_there(self) -> "CascadeEstimator":
        if self.type is EstimatorType.JUDGE and self.judge is None:
            raise ValueError("`judge` is required when `type` is Judge")
        return self


class CascadeBackend(Document):
    """A virtual model: its members are asked one after the other until an answer is good enough."""

    kind: Literal["Cascade"] = "Cascade"
    members: tuple[str, ...] = Field(min_length=1)
    """Ids of models that are not virtual, in the order in which they are asked."""
    threshold: float = Field(default=0.5, ge=0, le=1)
    """Least score of an answer that is given at once."""
    maxCost: float | None = Field(default=None, ge=0)
    """US dollars that one request may cost before the best answer so far is given; None: no bound."""
    estimator: CascadeEstimator = CascadeEstimator()


Backend = Annotated[
    ServiceBackend | StaticBackend | ExternalBackend | RouterBackend | CascadeBackend, Field(discriminator="kind")
]


def referenced_models(backend: Backend) -> tuple[str, ...]:
    """The ids of the models that a virtual model needs; none for any other."""
    if isinstance(backend, RouterBackend):
        return tuple(member.model for member in backend.members)
    if isinstance(backend, CascadeBackend):
        judge = backend.estimator.judge
        return backend.members if judge is None else (*backend.members, judge)
    return ()


class PromptPrefix(Document):
    """A prompt that requests may begin with by its name."""

    name: str
    system: str


class ModelQueue(Document):
    """The queue in front of a model, on the gateway's Redis. Without a Redis requests are dispatched directly."""

    dispatch: Dispatch = Dispatch.AUTO
    places: int = Field(default=256, ge=1)
    """How many requests one endpoint works on at a time: what is more would wait in the engine."""
    maxEntries: int = Field(default=1000, ge=1)
    """That wait, of all gateways together."""
    maxBytes: int = Field(default=256 << 20, ge=1)
    """Of their bodies."""
    maxWaitSeconds: float = Field(default=300.0, gt=0)
    """Expected wait above which further requests are refused."""
    secretFile: str | None = Field(default=None, exclude_if=is_none)
    """Name of a file in the gateway's credentials directory: what seals entries. None: nothing is sealed."""


class LoraAdapter(Document):
    """A LoRA adapter, served under a model name of its own."""

    servedName: str
    upstreamName: str


class StartFailure(Document):
    """Why no replica of a model comes up: nothing that waits for one would be answered."""

    reason: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9]{0,63}$")
    """For programs, such as ImagePullFailed."""
    message: str = Field(max_length=256)
    """For the clients of the model: it names no object of the cluster, and no node."""
    since: int = Field(default=0, ge=0)
    """Unix seconds since when none has come up."""


class Canary(Document):
    """Another revision of a model, which gets a share of its requests while it is tried.

    It is the same model to clients: its names, adapters, limits and guards are those of the entry. It has endpoints, a
    queue and cached answers of its own, under the id that `names.canary_id` gives. A request that it does not answer is
    answered by the stable revision, as long as the client has been sent nothing.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    """Of this try: another one counts from zero, and draws other users."""
    revision: str
    weight: float = Field(default=0.0, ge=0, le=100)
    """Percent of the requests, exact to a hundredth. With 0 it gets none, and its endpoints are known all the same."""
    stickyBy: StickyBy = StickyBy.USER
    """Whose requests stay with one revision while the weight stays. When it grows, nobody leaves the canary; when it
    shrinks, nobody comes to it."""
    backend: ServiceBackend | StaticBackend = Field(discriminator="kind")
    upstreamName: str = Field(default="", exclude_if=is_empty)
    """The name that its engine knows it by; empty: as the stable revision."""
    contextWindow: int | None = Field(default=None, ge=1, exclude_if=is_none)
    """None: as the stable revision. Requests that are longer go to that."""
    maxOutputTokens: int | None = Field(default=None, ge=1, exclude_if=is_none)
    """None: as the stable revision."""
    price: Price | None = Field(default=None, exclude_if=is_none)
    """None: as the stable revision."""


class ModelEntry(Entry):
    """One LLMModel as the gateway sees it."""

    id: str
    """`namespace/name` of the LLMModel: the key of all state that outlives a config."""
    uid: str = Field(default="", exclude_if=is_empty)
    """`metadata.uid` of the LLMModel; empty when no API server has seen it."""
    policies: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    """Ids of the policies that it must not be served without."""
    generation: int = Field(default=0, ge=0)
    """Always 0: which generations a config has is in the operator's ledger, so that one which changes nothing here
    reloads nothing. Readers from before the ledger require the field; it can go when upgrades from them are no longer
    supported. What those operators wrote is reported back to them (`ConfigReport.generations`)."""
    servedName: str
    aliases: tuple[str, ...] = ()
    upstreamName: str
    """The name that the engine knows the model by. It differs from servedName when a user renames the model, because
    the engine's own name never changes (that would restart it)."""
    revision: str = ""
    task: Task = Task.CHAT
    created: int = 0
    """Unix seconds of the LLMModel's creation, for /v1/models."""
    backend: Backend
    adapters: tuple[LoraAdapter, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    contextWindow: int | None = None
    maxOutputTokens: int | None = None
    compatibility: Compatibility | None = Field(default=None, exclude_if=is_none)
    """Readers from before the field write requests as they always did."""
    continuousUsage: bool = Field(default=False, exclude_if=is_empty)
    """Whether its engine tells its usage with every chunk of a stream, when it is asked to: vLLM's
    `stream_options.continuous_usage_stats`. Readers from before the field do not ask."""
    tenantSalt: bool = Field(default=False, exclude_if=is_empty)
    """Whether its engine keeps what it has computed of prompts apart by tenants: each request brings a `cache_salt`. An
    entry that says so requires TENANT_SALT: readers from before the field would mix the tenants."""
    kvEvents: bool = Field(default=False, exclude_if=is_empty)
    """Whether its workers tell which blocks of prompts their engines hold (see `kv_events`): those of a Service on
    WORKER_PORT of the pod's address, those of fixed addresses where `workers` says. Readers from before the field
    estimate."""
    prefixes: tuple[PromptPrefix, ...] = Field(default=(), exclude_if=is_empty)
    """Prompts that requests may name. Readers from before the field refuse `capstan.prefix`."""
    tokenizer: str = Field(default="", exclude_if=is_empty)
    """The name of its tokenizer, where that was shipped with the config; empty: the one of the model's own id, if any.
    Readers from before the field count by the engine, or estimate."""
    price: Price | None = None
    weight: int = Field(default=100, ge=0)
    auto: bool = Field(default=True, exclude_if=bool)
    """Whether the gateway's own `auto` may choose it. Readers from before the field choose among all."""
    queue: ModelQueue | None = Field(default=None, exclude_if=is_none)
    """None: there is no worker that takes from a queue. Readers from before the field dispatch directly."""
    startFailure: StartFailure | None = Field(default=None, exclude_if=is_none)
    """Why requests are not to wait for a replica. None: one may come up. Readers from before the field wait."""
    canary: Canary | None = Field(default=None, exclude_if=is_none)
    """A revision that is tried beside the one that this entry is otherwise of, the stable one; only of a model with
    endpoints of its own, in the cluster or at fixed addresses. Readers from before the field send all requests to the
    stable revision, which is safe: that serves all of them at weight 0, too."""
    evaluation: Evaluation | None = Field(default=None, exclude_if=is_none)
    """Which of its answers are sampled, and what they are judged by. None, and readers from before the field: none."""
    fallbacks: tuple[str, ...] = ()
    """Served names to try, in order, when this model cannot answer."""
    timeouts: Timeouts = Timeouts()

    @model_validator(mode="after")
    def _canary_is_beside_an_engine(self) -> "ModelEntry":
        if self.canary is not None and not isinstance(self.backend, ServiceBackend | StaticBackend):
            raise ValueError("`canary` is for models whose backend is of kind Service or Static")
        return self


def canary_entry(entry: ModelEntry) -> ModelEntry | None:
    """Give the entry of a model's canary, as if it were a model of its own; None where there is none.

    Nobody asks for it by its names, which are the model's, and it has no fallbacks: the model is what it falls back to.
    """
    tried = entry.canary
    if tried is None:
        return None
    return entry.model_copy(
        update={
            "id": canary_id(entry.id),
            "revision": tried.revision,
            "backend": tried.backend,
            "upstreamName": tried.upstreamName or entry.upstreamName,
            "contextWindow": entry.contextWindow if tried.contextWindow is None else tried.contextWindow,
            "maxOutputTokens": entry.maxOutputTokens if tried.maxOutputTokens is None else tried.maxOutputTokens,
            "price": entry.price if tried.price is None else tried.price,
            "startFailure": None,
            "canary": None,
            "fallbacks": (),
        }
    )


def with_canaries(entries: Iterable[ModelEntry]) -> list[ModelEntry]:
    """Give the entries of models, and of the canaries that they have: all of which something is known by its id."""
    found: list[ModelEntry] = []
    for entry in entries:
        found.append(entry)
        if (tried := canary_entry(entry)) is not None:
            found.append(tried)
    return found


class GatewayConfig(Document):
    """Everything that the gateway needs to serve. Make one with `GatewayConfig.build`."""

    schemaVersion: SchemaVersion = 1
    hash: str
    requires: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    """What a reader must know to serve any of it."""
    models: tuple[ModelEntry, ...] = ()
    policies: tuple[PolicyEntry, ...] = Field(default=(), exclude_if=is_empty)
    keys: tuple[KeyEntry, ...] = Field(default=(), exclude_if=is_empty)
    """The API keys that are valid, each with a hash of its own."""
    keySalt: str = Field(default="", pattern=r"^([0-9a-f]{32})?$", exclude_if=is_empty)
    """What the hashes of keys are made with; empty where there are none."""
    reserved: dict[str, str] = Field(default_factory=dict, exclude_if=is_empty)
    """Names that nobody is served under for the moment, and whose they are (the id of the model): a router without
    members keeps its own. They are the operator's memory, and gateways need not know them."""

    @classmethod
    def build(
        cls,
        models: Iterable[ModelEntry],
        *,
        policies: Iterable[PolicyEntry] = (),
        keys: Iterable[KeyEntry] = (),
        key_salt: str = "",
        requires: Iterable[str] = (),
        reserved: Mapping[str, str] = MappingProxyType({}),
    ) -> "GatewayConfig":
        """Sort, hash and freeze: the same models give the same bytes in whatever order they come."""
        ordered, named = tuple(sorted(models, key=_order)), tuple(sorted(policies, key=_order))
        needs = tuple(sorted(set(requires)))
        version: SchemaVersion = 2 if needs or named or any(model.requires for model in ordered) else 1
        own = dict(sorted(reserved.items()))
        known = tuple(sorted(keys, key=_order))
        draft = cls(
            schemaVersion=version, hash="", requires=needs, models=ordered, policies=named, keys=known,
            keySalt=key_salt if known else "", reserved=own,
        )  # fmt: skip
        return draft.model_copy(update={"hash": hashlib.sha256(draft.text()).hexdigest()})

    def with_keys(self, keys: Iterable[KeyEntry], salt: str) -> "GatewayConfig":
        """Give the same config with these keys; itself where it has them. Its models and policies are not looked at."""
        known = tuple(sorted(keys, key=_order))
        key_salt = salt if known else ""
        if (known, key_salt) == (self.keys, self.keySalt):
            return self
        draft = self.model_copy(update={"hash": "", "keys": known, "keySalt": key_salt})
        return draft.model_copy(update={"hash": hashlib.sha256(draft.text()).hexdigest()})

    def text(self) -> bytes:
        """The canonical JSON of the whole config."""
        parts = [b'"hash":', canonical(self.hash)]
        if self.keys:
            parts += [b',"keySalt":', canonical(self.keySalt)]
            parts += [b',"keys":[', b",".join(key.text for key in self.keys), b"]"]
        parts += [b',"models":[', b",".join(model.text for model in self.models), b"]"]
        if self.policies:
            parts += [b',"policies":[', b",".join(policy.text for policy in self.policies), b"]"]
        if self.requires:
            parts += [b',"requires":', canonical(self.requires)]
        if self.reserved:
            parts += [b',"reserved":', canonical(self.reserved)]
        return b"".join((b"{", *parts, b',"schemaVersion":', canonical(self.schemaVersion), b"}"))

    @model_validator(mode="after")
    def _names_are_unique(self) -> "GatewayConfig":
        owners: dict[str, str] = {}
        for entry in self.models:
            for name in (entry.servedName, *entry.aliases, *(adapter.servedName for adapter in entry.adapters)):
                if owners.setdefault(name, entry.id) != entry.id:
                    raise ValueError(f"model name '{name}' is claimed by both '{owners[name]}' and '{entry.id}'")
        return self

    @model_validator(mode="after")
    def _keys_have_a_salt(self) -> "GatewayConfig":
        if bool(self.keys) != bool(self.keySalt):
            raise ValueError("`keySalt` must be set exactly where there are `keys`")
        return self

    @model_validator(mode="after")
    def _policies_exist(self) -> "GatewayConfig":
        known = {policy.id for policy in self.policies}
        for entry in self.models:
            for name in entry.policies:
                if name not in known:
                    raise ValueError(f"model '{entry.id}' names the policy '{name}', which is not in the config")
        return self

    @model_validator(mode="after")
    def _members_exist(self) -> "GatewayConfig":
        backends = {entry.id: entry.backend for entry in self.models}
        for entry in self.models:
            for member in referenced_models(entry.backend):
                if member not in backends:
                    raise ValueError(f"model '{entry.id}' refers to '{member}', which is not in the config")
                if not _may_refer(entry.backend, backends[member]):
                    raise ValueError(f"model '{entry.id}' must not refer to '{member}', which is virtual")
        return self


class ConfigIndex(Document):
    """The main document when the config is split: which shards make up the config with this hash."""

    schemaVersion: SchemaVersion = 1
    hash: str
    requires: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    keySalt: str = Field(default="", exclude_if=is_empty)
    reserved: dict[str, str] = Field(default_factory=dict, exclude_if=is_empty)
    shards: tuple[str, ...]


class ConfigReport(Document):
    """What a gateway replica says at /internal/config: the acknowledgement that the operator reads."""

    hash: str | None
    """Hash of the config in use; None before the first one."""
    generations: dict[str, int] = Field(default_factory=dict)
    """Generation in use, by model id, of a config that an operator from before the ledger wrote, which reads the answer
    off it (and requires the field); otherwise empty. Goes when `ModelEntry.generation` goes."""
    error: str | None = None
    """Why the newest config that was seen is not in use; None when it is."""
    refused: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What of the config in use is not served, by the id of the entry: the requirements that are not known, and what
    else is missing (see `reading`)."""


def _may_refer(backend: Backend, to: Backend) -> bool:
    """Say whether a virtual model may use another one: a router any but routers, a cascade none that is virtual."""
    virtual = RouterBackend if isinstance(backend, RouterBackend) else (RouterBackend, CascadeBackend)
    return not isinstance(to, virtual)


def _order(entry: Entry) -> bytes:
    return spread(entry.id)


def digest(document: Mapping[str, Any]) -> str:
    """The hash of a config, whatever `hash` it says itself."""
    return hashlib.sha256(canonical({**document, "hash": ""})).hexdigest()
