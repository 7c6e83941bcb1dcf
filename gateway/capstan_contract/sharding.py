"""A config in pieces: one document, or an index and its shards.

An entry belongs to a bucket by the hash of its id. There are as few buckets as fit, a power of two, so that one more
model changes one shard, and not all that come after it. With a number of buckets twice as large each falls in two.

Shards come in two sets, `a` and `b`. Whoever writes takes the set that the live index does not name, and writes the
index last: until then the old config is whole, and from then on the new one, whenever the writer dies.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from capstan_contract.config import (
    ConfigError,
    ConfigIndex,
    ConfigTooLargeError,
    GatewayConfig,
    ModelEntry,
)
from capstan_contract.entries import PolicyEntry, canonical, spread
from capstan_contract.keys import KeyEntry
from capstan_contract.names import CONFIG_FILE, MAX_CONFIG_SHARDS, SHARD_BYTES, SHARD_SETS, shard_file

SHARD_HEAD: Final = b'{"models":['
SHARD_TAIL: Final = b"]}"
_POLICIES: Final = b'],"policies":['
_KEYS: Final = b'],"keys":['
ROOM_TO_SHRINK: Final = 0.75
"""The part of its documents that a config may fill for their number to be halved: at a boundary it would otherwise be
rewritten as a whole with each model that comes or goes."""
_FILE: Final = re.compile(r"shard-(?:([ab])-)?([1-9][0-9]?)\.json")
"""With the name of a set, or without: what operators wrote from before there were two sets."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """The entries of one shard."""

    models: list[ModelEntry] = field(default_factory=list)
    policies: list[PolicyEntry] = field(default_factory=list)
    keys: list[KeyEntry] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be written."""
        return not (self.models or self.policies or self.keys)

    def pieces(self) -> list[bytes]:
        """The text of the shard, in pieces."""
        pieces = [SHARD_HEAD, b",".join([one.text for one in self.models])]
        if self.policies:
            pieces += [_POLICIES, b",".join([one.text for one in self.policies])]
        if self.keys:
            pieces += [_KEYS, b",".join([one.text for one in self.keys])]
        return [*pieces, SHARD_TAIL]


def split_config(
    config: GatewayConfig, *, shard_bytes: int = SHARD_BYTES, shard_set: str = SHARD_SETS[0], present: int = 1
) -> dict[str, str]:
    """The documents to write, by file name: one, or an index and the shards of a set.

    `present` is into how many buckets the live config is split: it stays so while the config needs not many less.
    Raises ConfigTooLargeError when it does not fit, whatever is tried.
    """
    whole = config.text()
    count = _count(config, len(whole), shard_bytes)
    if count < present:
        count = min(present, _count(config, len(whole), int(shard_bytes * ROOM_TO_SHRINK), otherwise=present))
    if count == 1:
        return {CONFIG_FILE: whole.decode()}
    shards = {
        shard_file(shard_set, number): b"".join(bucket.pieces()).decode()
        for number, bucket in enumerate(_buckets(config, count), start=1)
        if not bucket.is_empty
    }
    index = ConfigIndex(
        schemaVersion=config.schemaVersion,
        hash=config.hash,
        requires=config.requires,
        keySalt=config.keySalt,
        reserved=config.reserved,
        shards=tuple(shards),
    )
    return {CONFIG_FILE: canonical(index.model_dump(mode="json")).decode(), **shards}


def _count(config: GatewayConfig, whole: int, limit: int, *, otherwise: int | None = None) -> int:
    """The least number of buckets that fit; 1: the config fits into one document. Without one: `otherwise`."""
    if whole <= limit:
        return 1
    count = 2
    while count <= MAX_CONFIG_SHARDS:
        if all(_size(bucket) <= limit for bucket in _buckets(config, count)):
            return count
        count *= 2
    if otherwise is not None:
        return otherwise
    raise ConfigTooLargeError(
        f"the gateway config does not fit into {MAX_CONFIG_SHARDS} shards of at most {limit} bytes"
    )


def _buckets(config: GatewayConfig, count: int) -> list[Bucket]:
    buckets = [Bucket() for _ in range(count)]
    for model in config.models:
        buckets[bucket_of(model.id, count)].models.append(model)
    for policy in config.policies:
        buckets[bucket_of(policy.id, count)].policies.append(policy)
    for key in config.keys:
        buckets[bucket_of(key.id, count)].keys.append(key)
    return buckets


def bucket_of(entry_id: str, count: int) -> int:
    """The bucket of an entry, counted from 0, when there are `count` of them (a power of two)."""
    return int.from_bytes(spread(entry_id)[:2]) * count >> 16


def _size(bucket: Bucket) -> int:
    """The bytes of a shard, one more for each entry than it needs at most."""
    envelope = len(SHARD_HEAD) + len(SHARD_TAIL)
    envelope += (len(_POLICIES) if bucket.policies else 0) + (len(_KEYS) if bucket.keys else 0)
    return envelope + sum(len(entry.text) + 1 for entry in (*bucket.models, *bucket.policies, *bucket.keys))


def shards_named_by(main_document: str | bytes) -> tuple[str, ...]:
    """The shard files that the main document needs beside it; none when it is a whole config."""
    return shards_of(parse(main_document, CONFIG_FILE))


def shards_of(parsed: Mapping[str, Any]) -> tuple[str, ...]:
    """The shard files that a main document names. Raises ConfigError when they are none."""
    shards = parsed.get("shards", [])
    if not isinstance(shards, list) or not all(isinstance(name, str) and is_shard(name) for name in shards):
        raise ConfigError(f"{CONFIG_FILE}: `shards` must be a list of file names of shards")
    if len(shards) > MAX_CONFIG_SHARDS:
        raise ConfigError(f"{CONFIG_FILE}: names {len(shards)} shards; at most {MAX_CONFIG_SHARDS} are allowed")
    return tuple(shards)


def is_shard(file: str) -> bool:
    """Whether this can be the name of a shard."""
    return _FILE.fullmatch(file) is not None


def other_set(shards: Sequence[str]) -> str:
    """The set to write when the live index names these shards."""
    used = {found[1] for name in shards if (found := _FILE.fullmatch(name))}
    return SHARD_SETS[1] if SHARD_SETS[0] in used else SHARD_SETS[0]


def set_of(shards: Sequence[str]) -> str | None:
    """The set that these shards are of; None when there are none, or they are of no set."""
    found = _FILE.fullmatch(shards[0]) if shards else None
    return found[1] if found else None


def buckets_of(shards: Sequence[str]) -> int:
    """The number of buckets that these shards are of, at least; 1 without shards (empty ones are not written)."""
    highest = max((int(found[2]) for name in shards if (found := _FILE.fullmatch(name))), default=1)
    return min(1 << (highest - 1).bit_length(), MAX_CONFIG_SHARDS)


def parse(document: str | bytes, name: str) -> dict[str, Any]:
    """The JSON object in a document. Raises ConfigError when it is something else."""
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{name} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ConfigError(f"{name} must hold a JSON object")
    return parsed
