"""The compiled gateway config: the one document that the operator writes and every gateway replica runs.

The writer is strict (`extra="forbid"`), the reader is tolerant: a gateway that is one release older than the operator
ignores fields that it does not know, and refuses a `schemaVersion` that it does not know.

The same models always compile to the same bytes: models are sorted, keys are sorted, there is no clock in it. `hash`
is the SHA-256 of the canonical JSON of everything else, so two documents with one hash are the same config.

A config larger than one ConfigMap is split into shards by `split_config`; the main document is then a `ConfigIndex`
that names the shards. A reader that sees shards of two generations notices, because the hash of the joined document
is wrong, and keeps what it has until they agree.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from capstan_contract.names import CONFIG_FILE, MAX_CONFIG_SHARDS, SHARD_BYTES, shard_file

SCHEMA_VERSION: Final = 1
MAX_HOST_LABEL: Final = 63
_SHARD_HEAD: Final = b'{"models":['
_SHARD_TAIL: Final = b"]}"


class ConfigError(Exception):
    """A gateway config that cannot be used; the message says where and why, and holds no secret."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
    if ":" not in host and not all(0 < len(part) <= MAX_HOST_LABEL for part in host.removesuffix(".").split(".")):
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


class Price(_Document):
    """US dollars per million tokens."""

    inputPerMillion: float = Field(default=0.0, ge=0)
    cachedInputPerMillion: float | None = Field(default=None, ge=0)
    """None: a cached input token costs as much as any other input token."""
    outputPerMillion: float = Field(default=0.0, ge=0)


class Timeouts(_Document):
    """Deadlines of one request, in seconds."""

    firstTokenSeconds: float = Field(default=120.0, gt=0)
    """From dispatch to the first byte of the answer's body (of a stream: the first event)."""
    idleSeconds: float = Field(default=60.0, gt=0)
    """Between two pieces of one answer."""
    totalSeconds: float = Field(default=600.0, gt=0)
    """From the arrival of the request to the end of the answer."""


class ServiceBackend(_Document):
    """A model that runs in the cluster: its endpoints are the ready ones of this Service's EndpointSlices."""

    kind: Literal["Service"] = "Service"
    namespace: str
    service: str
    portName: str


class StaticBackend(_Document):
    """A model at fixed addresses: local mode."""

    kind: Literal["Static"] = "Static"
    urls: tuple[BaseUrl, ...]
    """Base URLs without the /v1, such as http://127.0.0.1:8000. Empty while the engine is not running."""


class ExternalEndpoint(_Document):
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


class ExternalBackend(_Document):
    """A hosted API, at one or several addresses."""

    kind: Literal["External"] = "External"
    provider: Provider
    endpoints: tuple[ExternalEndpoint, ...] = Field(min_length=1)
    """Sorted by priority, then name."""


class RouterMember(_Document):
    """One model that a router may choose."""

    model: str
    """Id of a model of the same config that is not a router itself."""
    weight: int = Field(default=100, ge=0)
    """Share of the requests, for strategy Weighted; 0 gets none, and every weight may be 0."""
    priority: int = Field(default=0, ge=0)
    """Lower ones first, for strategy Priority."""


class RouterBackend(_Document):
    """A virtual model: one of its members answers."""

    kind: Literal["Router"] = "Router"
    strategy: Strategy = Strategy.CHEAPEST
    stickyBy: StickyBy = StickyBy.USER
    """Used by strategy Weighted only."""
    members: tuple[RouterMember, ...] = Field(min_length=1)
    """Sorted by model."""


class CascadeEstimator(_Document):
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


class CascadeBackend(_Document):
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
    """Give the ids of the models that a virtual model needs; none for any other."""
    if isinstance(backend, RouterBackend):
        return tuple(member.model for member in backend.members)
    if isinstance(backend, CascadeBackend):
        judge = backend.estimator.judge
        return backend.members if judge is None else (*backend.members, judge)
    return ()


class Adapter(_Document):
    """A LoRA adapter, served under a model name of its own."""

    servedName: str
    upstreamName: str


class ModelEntry(_Document):
    """One LLMModel as the gateway sees it."""

    id: str
    """`namespace/name` of the LLMModel: the key of all state that outlives a config."""
    generation: int = Field(ge=0)
    """`metadata.generation` that this entry was compiled from; what acknowledgement is about."""
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
    adapters: tuple[Adapter, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    contextWindow: int | None = None
    maxOutputTokens: int | None = None
    price: Price | None = None
    weight: int = Field(default=100, ge=0)
    fallbacks: tuple[str, ...] = ()
    """Served names to try, in order, when this model cannot answer."""
    timeouts: Timeouts = Timeouts()


class GatewayConfig(_Document):
    """Everything that the gateway needs to serve. Make one with `GatewayConfig.build`."""

    schemaVersion: Literal[1] = 1
    hash: str
    models: tuple[ModelEntry, ...] = ()

    @classmethod
    def build(cls, models: tuple[ModelEntry, ...]) -> "GatewayConfig":
        """Sort, hash and freeze: the same models give the same bytes in whatever order they come."""
        ordered = tuple(sorted(models, key=lambda entry: entry.id))
        draft = cls(hash="", models=ordered)
        return draft.model_copy(update={"hash": _digest(draft.model_dump(mode="json"))})

    @model_validator(mode="after")
    def _names_are_unique(self) -> "GatewayConfig":
        owners: dict[str, str] = {}
        for entry in self.models:
            for name in (entry.servedName, *entry.aliases, *(adapter.servedName for adapter in entry.adapters)):
                if owners.setdefault(name, entry.id) != entry.id:
                    raise ValueError(f"model name '{name}' is claimed by both '{owners[name]}' and '{entry.id}'")
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


class ConfigIndex(_Document):
    """The main document when the config is split: which shards make up the config with this hash."""

    schemaVersion: Literal[1] = 1
    hash: str
    shards: tuple[str, ...]


class ConfigReport(_Document):
    """What a gateway replica says at /internal/config: the acknowledgement that the operator reads."""

    hash: str | None
    """Hash of the config in use; None before the first one."""
    generations: dict[str, int]
    """Generation in use, by model id."""
    error: str | None = None
    """Why the newest config that was seen is not in use; None when it is."""


def _may_refer(backend: Backend, to: Backend) -> bool:
    """Say whether a virtual model may use another one: a router any but routers, a cascade none that is virtual."""
    virtual = RouterBackend if isinstance(backend, RouterBackend) else (RouterBackend, CascadeBackend)
    return not isinstance(to, virtual)


def _canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical({**document, "hash": ""})).hexdigest()


def split_config(config: GatewayConfig, *, shard_bytes: int = SHARD_BYTES) -> dict[str, str]:
    """Give the documents to write, by file name: one, or an index and its shards.

    Raises ConfigError when one model alone, or all of them together, do not fit.
    """
    whole = _canonical(config.model_dump(mode="json"))
    if len(whole) <= shard_bytes:
        return {CONFIG_FILE: whole.decode()}
    envelope = len(_canonical({"models": []}))
    shards: list[list[bytes]] = [[]]
    size = envelope
    for entry in config.models:
        encoded = _canonical(entry.model_dump(mode="json"))
        if envelope + len(encoded) > shard_bytes:
            raise ConfigError(
                f"model '{entry.id}' compiles to {len(encoded)} bytes; at most {shard_bytes} fit in a shard"
            )
        if size + len(encoded) + 1 > shard_bytes and shards[-1]:
            shards.append([])
            size = envelope
        shards[-1].append(encoded)
        size += len(encoded) + 1
    if len(shards) > MAX_CONFIG_SHARDS:
        raise ConfigError(f"the config needs {len(shards)} shards; at most {MAX_CONFIG_SHARDS} are allowed")
    names = tuple(shard_file(number) for number in range(1, len(shards) + 1))
    documents = {CONFIG_FILE: _canonical(ConfigIndex(hash=config.hash, shards=names).model_dump(mode="json")).decode()}
    for name, entries in zip(names, shards, strict=True):
        documents[name] = (_SHARD_HEAD + b",".join(entries) + _SHARD_TAIL).decode()
    return documents


def shards_named_by(main_document: str | bytes) -> tuple[str, ...]:
    """Give the shard files that the main document needs beside it; none when it is a whole config."""
    return _shards_of(_parse(main_document, CONFIG_FILE))


def _shards_of(parsed: Mapping[str, Any]) -> tuple[str, ...]:
    shards = parsed.get("shards", [])
    if not isinstance(shards, list) or not all(isinstance(name, str) for name in shards):
        raise ConfigError(f"{CONFIG_FILE}: `shards` must be a list of file names")
    if len(shards) > MAX_CONFIG_SHARDS:
        raise ConfigError(f"{CONFIG_FILE}: names {len(shards)} shards; at most {MAX_CONFIG_SHARDS} are allowed")
    return tuple(shards)


class ConfigReader:
    """Reads back what `split_config` wrote, one config after the other.

    An entry that is as it was in the config before is the same object again: it is not checked twice, and whoever asks
    what has changed is answered by identity. `rest` is called between entries, so that a thread that reads a large
    config can let others have their turn.
    """

    def __init__(self, *, rest: Callable[[], None] = lambda: None) -> None:
        self._rest = rest
        self._known: dict[bytes, ModelEntry] = {}

    def read(self, documents: Mapping[str, str | bytes]) -> GatewayConfig:
        """Give the config in these documents, by file name.

        Fields that this release does not know are dropped. Raises ConfigError for anything else that is not right:
        JSON, schema version, a missing shard, a hash that does not fit, a field with a wrong value.
        """
        parsed, shards = _parse_all(documents)
        if not _is_as_written(documents, parsed, shards) and _digest(parsed) != parsed.get("hash"):
            raise ConfigError(
                "the content does not match its hash: the config is damaged or its parts are of two generations"
            )
        models = parsed.get("models")
        if isinstance(models, list):
            parsed["models"] = self._entries(models)
        try:
            return GatewayConfig.model_validate(parsed, extra="ignore")
        except ValidationError as error:
            raise ConfigError(_explain(error)) from error

    def _entries(self, models: list[Any]) -> list[ModelEntry]:
        entries: list[ModelEntry] = []
        keys = [orjson.dumps(model) for model in models]
        for number, (key, model) in enumerate(zip(keys, models, strict=True)):
            try:
                entries.append(self._known.get(key) or ModelEntry.model_validate(model, extra="ignore"))
            except ValidationError as error:
                raise ConfigError(_explain(error, "models", str(number))) from error
            self._rest()
        self._known = dict(zip(keys, entries, strict=True))
        return entries


def join_config(documents: Mapping[str, str | bytes]) -> GatewayConfig:
    """Read one config; see ConfigReader."""
    return ConfigReader().read(documents)


def _parse_all(documents: Mapping[str, str | bytes]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Give the whole config as one document, and apart from it the shards that it came in."""
    if CONFIG_FILE not in documents:
        raise ConfigError(f"{CONFIG_FILE} is missing")
    parsed = _parse(documents[CONFIG_FILE], CONFIG_FILE)
    if parsed.get("schemaVersion") != SCHEMA_VERSION:
        raise ConfigError(
            f"{CONFIG_FILE}: `schemaVersion` is {parsed.get('schemaVersion')!r}; this release reads {SCHEMA_VERSION}"
        )
    names = _shards_of(parsed)
    if not names:
        return parsed, names
    models: list[Any] = []
    for name in names:
        if name not in documents:
            raise ConfigError(f"{name} is missing")
        part = _parse(documents[name], name).get("models")
        if not isinstance(part, list):
            raise ConfigError(f"{name}: `models` must be a list")
        models.extend(part)
    return {key: value for key, value in parsed.items() if key != "shards"} | {"models": models}, names


def _is_as_written(documents: Mapping[str, str | bytes], parsed: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    """Whether the hash fits the very text: what `split_config` writes is canonical, and need not be written anew.

    False says nothing: somebody may have formatted the documents.
    """
    if not names:
        text = _utf8(documents[CONFIG_FILE]).replace(f'"hash":"{parsed.get("hash")}"'.encode(), b'"hash":""', 1)
        return hashlib.sha256(text).hexdigest() == parsed.get("hash")
    envelope = _canonical({**parsed, "hash": "", "models": []}).split(b'"models":[]')
    shards = [_utf8(documents[name]) for name in names]
    if len(envelope) != 2 or not all(text.startswith(_SHARD_HEAD) and text.endswith(_SHARD_TAIL) for text in shards):
        return False
    models = b",".join(text[len(_SHARD_HEAD) : -len(_SHARD_TAIL)] for text in shards)
    text = envelope[0] + b'"models":[' + models + b"]" + envelope[1]
    return hashlib.sha256(text).hexdigest() == parsed.get("hash")


def _utf8(document: str | bytes) -> bytes:
    return document.encode() if isinstance(document, str) else document


def _parse(document: str | bytes, name: str) -> dict[str, Any]:
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{name} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ConfigError(f"{name} must hold a JSON object")
    return parsed


def _explain(error: ValidationError, *inside: str) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join((*inside, *(str(part) for part in first["loc"]))) or "document"
    return f"{where}: {first['msg']}"
