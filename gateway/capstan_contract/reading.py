"""Reading back what `split_config` wrote: tolerant where nothing is lost by it, closed where something is.

A document that is damaged, or of a schema version that is not known, is no config: whoever has one keeps it. A config
that requires what is not known as a whole is none either. In a config that is as it was written, entries stand for
themselves: one that requires what this release does not know is refused, and so is one that it cannot read, because
the fault is then in one entry of one tenant, and the others, and a gateway that just starts, must not pay for it. A
refused entry is not served in an older form either: what it requires may be what protects it. A policy is, where its
body cannot be enforced here (such as an engine that is not installed) and the one before could be: what it was
protects its models, as it does where the operator itself finds the fault.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from pydantic import ValidationError

from capstan_contract.config import (
    SCHEMA_VERSIONS,
    ConfigError,
    GatewayConfig,
    ModelEntry,
    digest,
)
from capstan_contract.entries import PolicyEntry, canonical
from capstan_contract.keys import KeyEntry
from capstan_contract.names import CONFIG_FILE
from capstan_contract.requirements import (
    KNOWN,
    Known,
    objections_to_model,
    objections_to_policy,
    unknown_requirements,
    without_refused,
)
from capstan_contract.sharding import KEYS_HEAD, POLICIES_HEAD, SHARD_HEAD, SHARD_TAIL, parse, shards_of

KEPT: Final = "kept/body"
"""Said of a policy that cannot be enforced: the one before is in force."""
_PARTS: Final = ("models", "policies", "keys")


@dataclass(frozen=True)
class Reading:
    """A config as this release can serve it."""

    config: GatewayConfig
    """Without what is refused; its hash is that of the config as it was written."""
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Why entries are left out, by their ids: the requirements that are not known, and in the same place `kind/KIND`
    of a policy, `policy/ID` of a model whose policy is missing or refused, `member/ID` of a virtual model of which
    nothing is left, and `field/PATH: MESSAGE` of an entry that cannot be read. With `kept/body` behind the message: the
    policy that could be enforced last is in force."""


class ConfigReader:
    """Reads one config after the other.

    An entry that is as it was in the config before is the same object again: it is not checked twice, and whoever asks
    what has changed is answered by identity. `rest` is called between entries, so that a thread that reads a large
    config can let others have their turn.
    """

    def __init__(self, *, rest: Callable[[], None] = lambda: None, known: Known = KNOWN) -> None:
        self._rest = rest
        self._known = known
        self._entries: dict[bytes, ModelEntry] = {}
        self._keys: dict[bytes, KeyEntry] = {}
        self._enforced: dict[tuple[str, str], dict[str, Any]] = {}
        """By id and uid: the body that could be enforced last. Only of what is in the config now."""

    def read(self, documents: Mapping[str, str | bytes]) -> Reading:
        """The config in these documents, by file name, and what of it is refused.

        Fields that this release does not know are dropped. Raises ConfigError for anything that is wrong with the
        whole: JSON, schema version, a requirement, a missing shard, a hash that does not fit, a name with two owners.
        """
        parsed, shards = _parse_all(documents)
        if unknown := unknown_requirements(parsed, self._known):
            raise ConfigError(f"the config requires what this release does not know: {', '.join(unknown)}")
        if not _is_as_written(documents, parsed, shards) and digest(parsed) != parsed.get("hash"):
            raise ConfigError(
                "the content does not match its hash: the config is damaged or its parts are of two generations"
            )
        refused: dict[str, tuple[str, ...]] = {}
        policies, enforced = self._read_policies(parsed.get("policies", []), refused)
        keys = self._read_keys(parsed.get("keys", []), refused)
        models, refused = without_refused(self._read_models(parsed.get("models", []), policies, refused), refused)
        try:
            config = GatewayConfig.model_validate(
                {
                    **parsed,
                    "models": models,
                    "policies": list(policies.values()),
                    "keys": keys,
                    "keySalt": parsed.get("keySalt", "") if keys else "",
                },
                extra="ignore",
            )
        except ValidationError as error:
            raise ConfigError(_explain(error)) from error
        self._enforced = enforced
        return Reading(config, refused)

    def _read_policies(
        self, raws: object, refused: dict[str, tuple[str, ...]]
    ) -> tuple[dict[str, PolicyEntry], dict[tuple[str, str], dict[str, Any]]]:
        """Give those that can be enforced, and their bodies by id and uid."""
        policies: dict[str, PolicyEntry] = {}
        enforced: dict[tuple[str, str], dict[str, Any]] = {}
        for number, raw in enumerate(_items(raws, "policies")):
            name = _id_of(raw, "policies", number)
            whose = name, str(raw.get("uid", ""))
            objections = objections_to_policy(raw, self._known)
            body = self._enforced.get(whose) if objections and _is_body(objections) else None
            try:
                if not objections or body is not None:
                    given = raw if body is None else {**raw, "body": body}
                    policies[name] = PolicyEntry.model_validate(given, extra="ignore")
                    enforced[whose] = policies[name].body
            except ValidationError as error:
                objections, body = (f"field/{_explain(error)}",), None
            if objections:
                refused[name] = objections if body is None else (*objections, KEPT)
        return policies, enforced

    def _read_keys(self, raws: object, refused: dict[str, tuple[str, ...]]) -> list[KeyEntry]:
        """A key that cannot be read, or of which not all is understood, is not valid."""
        known: dict[bytes, KeyEntry] = {}
        keys: list[KeyEntry] = []
        for number, raw in enumerate(_items(raws, "keys")):
            name = _id_of(raw, "keys", number)
            objections = unknown_requirements(raw, self._known) if "requires" in raw else ()
            try:
                if not objections:
                    text = orjson.dumps(raw)
                    known[text] = self._keys.get(text) or KeyEntry.model_validate(raw, extra="ignore")
                    keys.append(known[text])
            except ValidationError as error:
                objections = (f"field/{_explain(error)}",)
            if objections:
                refused[f"key/{name}"] = objections
            self._rest()
        self._keys = known
        return keys

    def _read_models(
        self, raws: object, policies: Mapping[str, PolicyEntry], refused: dict[str, tuple[str, ...]]
    ) -> list[ModelEntry]:
        items = _items(raws, "models")
        known: dict[bytes, ModelEntry] = {}
        models: list[ModelEntry] = []
        for number, raw in enumerate(items):
            name = _id_of(raw, "models", number)
            objections = objections_to_model(raw, self._known, policies)
            try:
                if not objections:
                    key = orjson.dumps(raw)
                    known[key] = self._entries.get(key) or ModelEntry.model_validate(raw, extra="ignore")
                    models.append(known[key])
            except ValidationError as error:
                objections = (f"field/{_explain(error)}",)
            if objections:
                refused[name] = objections
            self._rest()
        self._entries = known
        return models


def join_config(documents: Mapping[str, str | bytes]) -> GatewayConfig:
    """Read one config; see ConfigReader."""
    return ConfigReader().read(documents).config


def _items(raws: object, part: str) -> list[Any]:
    if not isinstance(raws, list):
        raise ConfigError(f"`{part}` must be a list")
    return raws


def _is_body(objections: tuple[str, ...]) -> bool:
    """Whether nothing but the body of a policy is objected to."""
    return all(one.startswith("field/body") for one in objections)


def _id_of(raw: object, part: str, number: int) -> str:
    name = raw.get("id") if isinstance(raw, dict) else None
    if not isinstance(name, str):
        raise ConfigError(f"{part}.{number}: has no `id`")
    return name


def _parse_all(documents: Mapping[str, str | bytes]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The whole config as one document, and apart from it the shards that it came in."""
    if CONFIG_FILE not in documents:
        raise ConfigError(f"{CONFIG_FILE} is missing")
    parsed = parse(documents[CONFIG_FILE], CONFIG_FILE)
    if parsed.get("schemaVersion") not in SCHEMA_VERSIONS:
        known = " and ".join(map(str, SCHEMA_VERSIONS))
        raise ConfigError(
            f"{CONFIG_FILE}: `schemaVersion` is {parsed.get('schemaVersion')!r}; this release reads {known}"
        )
    names = shards_of(parsed)
    if not names:
        return parsed, names
    joined: dict[str, list[Any]] = {"models": []}
    for name in names:
        if name not in documents:
            raise ConfigError(f"{name} is missing")
        shard = parse(documents[name], name)
        for part in _PARTS:
            if part in shard:
                if not isinstance(shard[part], list):
                    raise ConfigError(f"{name}: `{part}` must be a list")
                joined.setdefault(part, []).extend(shard[part])
    return {key: value for key, value in parsed.items() if key != "shards"} | joined, names


def _is_as_written(documents: Mapping[str, str | bytes], parsed: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    """Whether the hash fits the very text: what `split_config` writes is canonical, and need not be written anew.

    False says nothing: somebody may have formatted the documents.
    """
    if not names:
        text = _utf8(documents[CONFIG_FILE]).replace(f'"hash":"{parsed.get("hash")}"'.encode(), b'"hash":""', 1)
        return hashlib.sha256(text).hexdigest() == parsed.get("hash")
    shards = [_cut(_utf8(documents[name])) for name in names]
    text = canonical({**parsed, "hash": "", **{part: [] for part in _PARTS if part in parsed}})
    for part, pieces in zip(_PARTS, zip(*shards, strict=True), strict=True):
        empty, entries = f'"{part}":[]'.encode(), b",".join(piece for piece in pieces if piece)
        if entries and text.count(empty) != 1:
            return False
        text = text.replace(empty, empty[:-1] + entries + b"]", 1)
    return hashlib.sha256(text).hexdigest() == parsed.get("hash")


def _cut(shard: bytes) -> tuple[bytes, bytes, bytes]:
    """The texts of a shard's models, policies and keys. What is cut in a wrong place does not fit the hash."""
    if not (shard.startswith(SHARD_HEAD) and shard.endswith(SHARD_TAIL)):
        return b"", b"", b""
    inside = shard[len(SHARD_HEAD) : -len(SHARD_TAIL)]
    rest, found, keys = inside.rpartition(KEYS_HEAD)
    models, _, policies = (rest if found else inside).partition(POLICIES_HEAD)
    return models, policies, keys if found else b""


def _utf8(document: str | bytes) -> bytes:
    return document.encode() if isinstance(document, str) else document


def _explain(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "document"
    return f"{where}: {first['msg']}"
