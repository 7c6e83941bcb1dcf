"""The events that vLLM publishes of its KV cache, as they come in one batch (`vllm.distributed.kv_events`). Pure.

A batch is msgpack: [time, [event, ...], rank?]. An event is a map with its fields by name (vLLM 0.32), or a list with
its name in front (earlier releases), in which what is added comes at the end. Events that are not known are left out:
they say nothing of blocks that come and go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from capstan_contract.kv_events import MOST_BLOCK_TOKENS

EngineHash = bytes | int
_STORED: Final = (
    "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name", "extra_keys",
)  # fmt: skip
_REMOVED: Final = ("block_hashes", "medium")
_DECODER: Final = msgspec.msgpack.Decoder()


class MalformedEvents(ValueError):
    """A batch that is none of vLLM's; the message says what is wrong and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block is: in which memory, for which group of layers. Of two releases, None is where it is not told."""

    medium: str | None = None
    group: int | None = None


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """Blocks of one prompt, one behind the other."""

    hashes: Sequence[EngineHash]
    parent: EngineHash | None
    """The block in front of the first one; None: the prompt begins with that."""
    tokens: Sequence[int]
    block_tokens: int
    place: Place
    adapter: str = ""
    of_unnamed_adapter: bool = False
    """Whether it is of an adapter of which only a number is told."""
    kind: str | None = None
    """How the layers of its group look back: vLLM's `KVCacheSpecKind`. None: it is not told."""
    extra: Sequence[Sequence[Any] | None] = ()
    """Of each block what else is in its hash. Empty: it is not told."""


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    """Blocks that are no longer in one place."""

    hashes: Sequence[EngineHash]
    place: Place


@dataclass(frozen=True, slots=True)
class AllCleared:
    """Nothing is left."""


Event = BlocksStored | BlocksRemoved | AllCleared


def read_batch(payload: bytes) -> list[Event]:
    """Read one batch. Raises MalformedEvents."""
    try:
        batch = _DECODER.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedEvents("a batch must be msgpack") from None
    if not isinstance(batch, list) or len(batch) < 2 or not isinstance(batch[1], list):
        raise MalformedEvents("a batch must be a list of a time and of events")
    return [event for said in batch[1] if (event := _read_event(said)) is not None]


def _read_event(said: object) -> Event | None:
    if isinstance(said, dict):
        kind, fields = said.get("type"), said
    elif isinstance(said, list) and said:
        kind = said[0]
        names = _STORED if kind == "BlockStored" else _REMOVED
        fields = dict(zip(names, said[1:], strict=False))
    else:
        raise MalformedEvents("an event must be a map or a list")
    match kind:
        case "BlockStored":
            return _read_stored(fields)
        case "BlockRemoved":
            return BlocksRemoved(_hashes(fields), _place(fields))
        case "AllBlocksCleared":
            return AllCleared()
        case _:
            return None


def _read_stored(fields: Mapping[str, Any]) -> BlocksStored:
    parent, tokens, size = fields.get("parent_block_hash"), fields.get("token_ids"), fields.get("block_size")
    adapter, extra = fields.get("lora_name"), fields.get("extra_keys")
    if parent is not None and not isinstance(parent, EngineHash):
        raise MalformedEvents("`parent_block_hash` must be bytes or a whole number")
    if not isinstance(tokens, list):
        raise MalformedEvents("`token_ids` must be a list")
    if type(size) is not int or not 1 <= size <= MOST_BLOCK_TOKENS:
        raise MalformedEvents(f"`block_size` must be from 1 to {MOST_BLOCK_TOKENS}")
    if not isinstance(extra, list | None) or not all(isinstance(keys, list | None) for keys in extra or ()):
        raise MalformedEvents("`extra_keys` must be a list of lists")
    return BlocksStored(
        hashes=_hashes(fields),
        parent=parent,
        tokens=tokens,
        block_tokens=size,
        place=_place(fields),
        adapter=_text(fields, "lora_name") or "",
        of_unnamed_adapter=adapter is None and fields.get("lora_id") is not None,
        kind=_text(fields, "kv_cache_spec_kind"),
        extra=extra or (),
    )


def _place(fields: Mapping[str, Any]) -> Place:
    group = fields.get("group_idx")
    if group is not None and type(group) is not int:
        raise MalformedEvents("`group_idx` must be a whole number")
    return Place(_text(fields, "medium"), group)


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    text = fields.get(name)
    if not isinstance(text, str | None):
        raise MalformedEvents(f"`{name}` must be text")
    return text


def _hashes(fields: Mapping[str, Any]) -> Sequence[EngineHash]:
    found = fields.get("block_hashes")
    if not isinstance(found, list) or not all(isinstance(one, EngineHash) for one in found):
        raise MalformedEvents("`block_hashes` must be a list of bytes or whole numbers")
    return found
