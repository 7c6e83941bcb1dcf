"""A config in pieces: one document, or an index and its shards.

An entry belongs to a bucket by the hash of its id. There are as few buckets as fit, a power of two, so that one more
model changes one shard, and not all that come after it. With a number of buckets twice as large each falls in two.

Shards come in two sets, `a` and `b`. Whoever writes takes the set that the live index does not name, and writes the
index last: until then the old config is whole, and from then on the new one, whenever the writer dies.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final, Generic, TypeVar

import orjson

from capstan_contract.config import (
    ConfigError,
    ConfigIndex,
    ConfigTooLargeError,
    GatewayConfig,
)
from capstan_contract.entries import Entry, canonical, spread
from capstan_contract.names import CONFIG_FILE, MAX_CONFIG_SHARDS, SHARD_BYTES, SHARD_SETS, shard_file

SHARD_HEAD: Final = b'{"models":['
SHARD_TAIL: Final = b"]}"
POLICIES_HEAD: Final = b'],"policies":['
KEYS_HEAD: Final = b'],"keys":['
ROOM_TO_SHRINK: Final = 0.75
"""The part of its documents that a config may fill for their number to be halved: at a boundary it would otherwise be
rewritten as a whole with each model that comes or goes."""
_FILE: Final = re.compile(r"shard-(?:([ab])-)?([1-9][0-9]?)\.json")
"""With the name of a set, or without: what operators wrote from before there were two sets."""


E = TypeVar("E", bound=Entry)


class _Part(Generic[E]):
    """The entries of one kind, in the order of a config: those of a bucket are a slice of them."""

    def __init__(self, entries: Sequence[E], head: bytes) -> None:
        self._entries = entries
        self._head = head
        self._sizes = list(accumulate((len(entry.text) + 1 for entry in entries), initial=0))
        """The bytes of all entries before each, one more for each than it needs at most."""

    def borders(self, count: int) -> list[int]:
        """Where each of `count` buckets begins, and where the last one ends. Entries that somebody has put into another
        order are still in one bucket each."""

        def bucket(entry: E) -> int:
            return bucket_of(entry.id, count)

        found = [bisect_left(self._entries, number, key=bucket) for number in range(1, count)]
        return list(accumulate([0, *found, len(self._entries)], max))

    def size(self, start: int, end: int) -> int:
        """The bytes that a slice takes in a shard."""
        return self._sizes[end] - self._sizes[start] + (len(self._head) if end > start else 0)

    def pieces(self, start: int, end: int) -> list[bytes]:
        """The text of a slice, with what stands before it in a shard."""
        if end == start:
            return []
        return [self._head, b",".join([entry.text for entry in self._entries[start:end]])]


class ShardedConfig:
    """A config in as few documents as it fits into; which set they are of is said in the end."""

    def __init__(self, config: GatewayConfig, *, shard_bytes: int = SHARD_BYTES, present: int = 1) -> None:
        """See `split_config`."""
        self._config = config
        self._whole = config.text()
        self._parts: tuple[_Part[Any], ...] = (
            _Part(config.models, b""),
            _Part(config.policies, POLICIES_HEAD),
            _Part(config.keys, KEYS_HEAD),
        )
        count = self._count(shard_bytes)
        if count < present:
            count = min(present, self._count(int(shard_bytes * ROOM_TO_SHRINK), otherwise=present))
        self._texts = [] if count == 1 else [self._shard(slices) for slices in self._slices(count)]

    def _count(self, limit: int, *, otherwise: int | None = None) -> int:
        """The least number of buckets that fit; 1: the config fits into one document. Without one: `otherwise`."""
        if len(self._whole) <= limit:
            return 1
        count = 2
        while count <= MAX_CONFIG_SHARDS:
            if all(self._size(slices) <= limit for slices in self._slices(count)):
                return count
            count *= 2
        if otherwise is not None:
            return otherwise
        raise ConfigTooLargeError(
            f"the gateway config does not fit into {MAX_CONFIG_SHARDS} shards of at most {limit} bytes"
        )

    def _slices(self, count: int) -> list[tuple[tuple[int, int], ...]]:
        """For each bucket, the slice of each part."""
        return list(zip(*(pairwise(part.borders(count)) for part in self._parts), strict=True))

    def _size(self, slices: tuple[tuple[int, int], ...]) -> int:
        parts = zip(self._parts, slices, strict=True)
        return len(SHARD_HEAD) + len(SHARD_TAIL) + sum(part.size(*slice_) for part, slice_ in parts)

    def _shard(self, slices: tuple[tuple[int, int], ...]) -> str:
        """The text of a shard; empty where nothing is in it."""
        pieces = [piece for part, slice_ in zip(self._parts, slices, strict=True) for piece in part.pieces(*slice_)]
        return b"".join([SHARD_HEAD, *pieces, SHARD_TAIL]).decode() if pieces else ""

    def documents(self, shard_set: str) -> dict[str, str]:
        """The documents to write, by file name: one, or an index and the shards of a set."""
        if not self._texts:
            return {CONFIG_FILE: self._whole.decode()}
        shards = {shard_file(shard_set, number): text for number, text in enumerate(self._texts, start=1) if text}
        index = ConfigIndex(
            schemaVersion=self._config.schemaVersion,
            hash=self._config.hash,
            requires=self._config.requires,
            keySalt=self._config.keySalt,
            reserved=self._config.reserved,
            shards=tuple(shards),
        )
        return {CONFIG_FILE: canonical(index.model_dump(mode="json")).decode(), **shards}


def split_config(
    config: GatewayConfig, *, shard_bytes: int = SHARD_BYTES, shard_set: str = SHARD_SETS[0], present: int = 1
) -> dict[str, str]:
    """The documents to write, by file name: one, or an index and the shards of a set.

    `present` is into how many buckets the live config is split: it stays so while the config needs not many less.
    Raises ConfigTooLargeError when it does not fit, whatever is tried.
    """
    return ShardedConfig(config, shard_bytes=shard_bytes, present=present).documents(shard_set)


def bucket_of(entry_id: str, count: int) -> int:
    """The bucket of an entry, counted from 0, when there are `count` of them (a power of two)."""
    return int.from_bytes(spread(entry_id)[:2]) * count >> 16


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
