"""What the engine calls its blocks, and what they are called here. Pure.

An engine names a block by a hash of its own and tells the tokens only when it stores it; what it removes it names by
the hash alone. So the names are kept by the engine's hashes, the newest so many of them. A block whose name cannot be
made is not told, nor is what follows it: one behind a picture, whose content is in no token; one of an adapter without
a name; one behind a block that is not known, because it was dropped here or stored before anybody listened.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from capstan_contract.kv_events import MOST_BLOCKS, block_names, root_name
from capstan_worker.kv_events.held import HeldBlocks
from capstan_worker.kv_events.wire import (
    AllCleared,
    BlocksRemoved,
    BlocksStored,
    EngineHash,
    Event,
    MalformedEvents,
    Place,
)

NOT_WHOLE: Final = frozenset(
    {
        "sliding_window", "sliding_window_mla", "mamba", "chunked_local_attention", "encoder_only_attention",
        "cross_attention",
    }
)  # fmt: skip
"""Groups of layers that need not all of a prompt. What they keep does not say how much of it was computed."""


class BlockTable:
    """Keeps `held` at what the events of one engine say."""

    def __init__(self, held: HeldBlocks, *, most: int = MOST_BLOCKS) -> None:
        self.held = held
        self._most = most
        self._known: OrderedDict[EngineHash, tuple[int, frozenset[Place]]] = OrderedDict()
        """The name of each block and where it is, in the order in which they were stored."""
        self._bearers: dict[int, int] = {}
        """How many of the engine's blocks have a name: two may, where it does not tell all that is in its hashes."""
        self.untold = 0
        """Blocks that were stored and could not be named."""

    def __len__(self) -> int:
        return len(self._known)

    def apply(self, events: Iterable[Event]) -> None:
        """Take over what one batch says, in its order. Raises MalformedEvents, and has done what stands before."""
        for event in events:
            match event:
                case BlocksStored():
                    self._store(event)
                case BlocksRemoved():
                    self._remove(event)
                case AllCleared():
                    self.clear()

    def clear(self) -> None:
        """Begin anew: nothing is known to be there."""
        self._known.clear()
        self._bearers.clear()
        self.held.clear()

    def _store(self, event: BlocksStored) -> None:
        if event.kind in NOT_WHOLE or not event.hashes:
            return
        before = self._before(event)
        count = 0 if before is None else _told(event)
        if event.block_tokens != self.held.block_tokens and count:
            if self._known:
                count = 0
            else:
                self.held.resize(event.block_tokens)
        self.untold += len(event.hashes) - count
        if before is None or not count:
            return
        try:
            names = block_names(event.tokens[: count * event.block_tokens], event.block_tokens, before=before)
        except (OverflowError, TypeError):
            raise MalformedEvents("`token_ids` must be whole numbers from 0 to 2^32 - 1") from None
        for engine_hash, name in zip(event.hashes, names, strict=False):
            self._add(engine_hash, name, event.place)
        self.held.store(names)
        while len(self._known) > self._most:
            self._drop(next(iter(self._known)))

    def _before(self, event: BlocksStored) -> int | None:
        """Give the name of what stands in front; None where it is not known."""
        if event.of_unnamed_adapter or len(event.tokens) != len(event.hashes) * event.block_tokens:
            return None
        if event.parent is not None:
            known = self._known.get(event.parent)
            return None if known is None else known[0]
        return root_name(salt=_salt(event), adapter=event.adapter)

    def _add(self, engine_hash: EngineHash, name: int, place: Place) -> None:
        before = self._known.pop(engine_hash, None)
        if before is not None and before[0] != name:
            # It has another name than it had: its parent was another one, which no engine does.
            self._forget(before[0])
            before = None
        if before is None:
            self._bearers[name] = self._bearers.get(name, 0) + 1
        self._known[engine_hash] = (name, _only(place) if before is None else before[1] | {place})

    def _remove(self, event: BlocksRemoved) -> None:
        for engine_hash in event.hashes:
            known = self._known.get(engine_hash)
            if known is None:
                continue
            left = frozenset(place for place in known[1] if not _is_meant(place, event.place))
            if left:
                self._known[engine_hash] = (known[0], left)
            else:
                self._drop(engine_hash)

    def _drop(self, engine_hash: EngineHash) -> None:
        name, _ = self._known.pop(engine_hash)
        self._forget(name)

    def _forget(self, name: int) -> None:
        self._bearers[name] -= 1
        if not self._bearers[name]:
            del self._bearers[name]
            self.held.remove((name,))


@lru_cache(maxsize=64)
def _only(place: Place) -> frozenset[Place]:
    """Give the same set for the same place: nearly every block is in one place."""
    return frozenset((place,))


def _is_meant(place: Place, said: Place) -> bool:
    """Whether a block that was stored in one place is gone from it: what a removal does not tell is any."""
    return said.medium in (None, place.medium) and said.group in (None, place.group)


def _salt(event: BlocksStored) -> str:
    """Give the `cache_salt`: the one text in the first block's hash beside the adapter's name."""
    texts = _without_adapter(event.extra[0] if event.extra else None, event.adapter)
    return texts[0] if len(texts) == 1 and isinstance(texts[0], str) else ""


def _told(event: BlocksStored) -> int:
    """Count the blocks from the first one on that have nothing in their hashes but tokens, adapter and salt."""
    if not event.extra:
        return len(event.hashes)
    count = 0
    for number, keys in enumerate(event.extra[: len(event.hashes)]):
        others = _without_adapter(keys, event.adapter)
        is_salt = number == 0 and event.parent is None and len(others) == 1 and isinstance(others[0], str)
        if others and not is_salt:
            break
        count += 1
    return count


def _without_adapter(keys: Sequence[Any] | None, adapter: str) -> Sequence[Any]:
    found = keys or ()
    return found[1:] if adapter and found and found[0] == adapter else found
