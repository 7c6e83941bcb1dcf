"""Which blocks of prompts an engine holds: what a worker tells gateways, on `KV_EVENTS_PATH` of its port.

The answer is a stream of lines, each a JSON object (`application/x-ndjson`):

    {"version":1,"blockTokens":16,"snapshot":3}             the head: so many blocks are in the snapshot behind it
    {"stored":"<names>"}                                    the snapshot, in as many lines as it takes
    {"stored":"<names>","removed":"<names>"}                what has changed since the line before
    {"cleared":true,"stored":"<names>"}                     all was thrown away; what is there since is named
    {}                                                      nothing has changed for KV_EVENTS_BEAT_SECONDS

It ends when the worker does, and when blocks turn out to have another size than the head says: a worker that has heard
nothing of its engine yet says 16. Whoever reads asks again.

`<names>` are the names of blocks, 8 bytes each, in base64. A block's name is a hash of its tokens and of all tokens in
front of them, made here and not by the engine: engines hash by an algorithm and a seed of their own, and a gateway
makes the same name of the tokens of a prompt. No token can be read out of a name; who guesses a whole prompt can
compare.
"""

import base64
import binascii
import json
import sys
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

KV_EVENTS_PATH: Final = "/kv-events"
KV_EVENTS_TYPE: Final = "application/x-ndjson"
KV_EVENTS_VERSION: Final = 1
KV_EVENTS_BEAT_SECONDS: Final = 5.0
"""So often at least a line is sent. A reader that has had none for three times as long has lost its worker."""
NAME_BYTES: Final = 8
MOST_NAMES_OF_LINE: Final = 4096
MOST_LINE_BYTES: Final = 2 * (MOST_NAMES_OF_LINE * NAME_BYTES * 4 // 3) + 1024
"""Of a line with all names that it may have, stored and removed."""
MOST_BLOCKS: Final = 262_144
"""Of one engine: 4 million tokens in blocks of 16. A worker tells no more than the newest so many."""
MOST_BLOCK_TOKENS: Final = 4096
_TOKEN_CODE: Final = next(code for code in "IL" if array(code).itemsize == 4)
_NAME_CODE: Final = "Q"


class KVEventError(ValueError):
    """A line that is none of this format; the message says what is wrong and holds nothing of the line."""


@dataclass(frozen=True, slots=True)
class Head:
    """How the stream begins."""

    block_tokens: int
    snapshot: int
    """How many blocks are named by the lines behind this one before they tell changes."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line behind the head: first all is cleared if so, then blocks are removed, then blocks are stored."""

    stored: Sequence[int] = ()
    removed: Sequence[int] = ()
    cleared: bool = False


def root_name(*, salt: str = "", adapter: str = "") -> int:
    """Give the name of what stands in front of a prompt's first block: nothing, but for whom it is computed.

    `salt` is the request's `cache_salt`, `adapter` the name of the LoRA adapter in the engine; "" where there is none.
    """
    said = json.dumps([salt, adapter]).encode()
    return int.from_bytes(blake2b(said, digest_size=NAME_BYTES).digest(), "little")


def block_names(tokens: Sequence[int], block_tokens: int, *, before: int) -> list[int]:
    """Give the names of the whole blocks of these tokens; what is left over at the end has none.

    `before` is the name of the block in front of them, or the root's. Raises OverflowError for a token that is not a
    whole number from 0 to 2^32 - 1.
    """
    packed = array(_TOKEN_CODE, tokens)
    if sys.byteorder == "big":
        packed.byteswap()
    data = packed.tobytes()
    size = block_tokens * packed.itemsize
    last = before.to_bytes(NAME_BYTES, "little")
    names = []
    for start in range(0, len(data) - size + 1, size):
        last = blake2b(last + data[start : start + size], digest_size=NAME_BYTES).digest()
        names.append(int.from_bytes(last, "little"))
    return names


def write_head(block_tokens: int, snapshot: Collection[int]) -> Iterator[bytes]:
    """Give the lines with which a stream begins: the head, and the snapshot."""
    head = {"version": KV_EVENTS_VERSION, "blockTokens": block_tokens, "snapshot": len(snapshot)}
    yield _line(head)
    yield from write_change(Change(stored=tuple(snapshot)))


def write_change(change: Change) -> Iterator[bytes]:
    """Give the lines of a change: as many as it takes, none where nothing has changed."""
    longest = max(len(change.stored), len(change.removed))
    if not longest and change.cleared:
        yield _line({"cleared": True})
    # NB: removed names come in earlier lines than stored ones, or in the same: who reads them in order ends with both.
    parts = [{"removed": _pack(part)} for part in _parts(change.removed)]
    parts += [{"stored": _pack(part)} for part in _parts(change.stored)]
    for number, part in enumerate(parts):
        yield _line({"cleared": True, **part} if change.cleared and not number else part)


BEAT: Final = b"{}\n"


def read_head(line: bytes) -> Head:
    """Read the first line. Raises KVEventError."""
    said = _read(line)
    if said.get("version") != KV_EVENTS_VERSION:
        raise KVEventError(f"`version` must be {KV_EVENTS_VERSION}")
    block_tokens, snapshot = said.get("blockTokens"), said.get("snapshot")
    if type(block_tokens) is not int or not 1 <= block_tokens <= MOST_BLOCK_TOKENS:
        raise KVEventError(f"`blockTokens` must be a whole number from 1 to {MOST_BLOCK_TOKENS}")
    if type(snapshot) is not int or not 0 <= snapshot <= MOST_BLOCKS:
        raise KVEventError(f"`snapshot` must be a whole number from 0 to {MOST_BLOCKS}")
    return Head(block_tokens, snapshot)


def read_change(line: bytes) -> Change:
    """Read a line behind the head; fields that are not known are left out. Raises KVEventError."""
    said = _read(line)
    cleared = said.get("cleared", False)
    if type(cleared) is not bool:
        raise KVEventError("`cleared` must be true or false")
    return Change(_unpack(said, "stored"), _unpack(said, "removed"), cleared)


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _parts(names: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(names), MOST_NAMES_OF_LINE):
        yield names[start : start + MOST_NAMES_OF_LINE]


def _read(line: bytes) -> dict[str, Any]:
    if len(line) > MOST_LINE_BYTES:
        raise KVEventError(f"a line must have at most {MOST_LINE_BYTES} bytes")
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise KVEventError("a line must be JSON") from None
    if not isinstance(said, dict):
        raise KVEventError("a line must be an object")
    return said


def _pack(names: Sequence[int]) -> str:
    packed = array(_NAME_CODE, names)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode("ascii")


def _unpack(said: dict[str, Any], field: str) -> tuple[int, ...]:
    text = said.get(field, "")
    if not isinstance(text, str):
        raise KVEventError(f"`{field}` must be text")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise KVEventError(f"`{field}` must be base64") from None
    if len(data) % NAME_BYTES or len(data) > MOST_NAMES_OF_LINE * NAME_BYTES:
        raise KVEventError(f"`{field}` must be names of {NAME_BYTES} bytes, at most {MOST_NAMES_OF_LINE}")
    names = array(_NAME_CODE)
    names.frombytes(data)
    if sys.byteorder == "big":
        names.byteswap()
    return tuple(names)
