"""What a CachePolicy does not do: for models that only choose others, and without the models that it asks."""

from collections.abc import Iterator
from typing import Final

from capstan_contract.caches import SemanticTier, read_cache_body
from capstan_contract.config import CascadeBackend, ModelEntry, RouterBackend, Task
from capstan_contract.entries import PolicyEntry
from capstan_operator.desired.live import key_of
from capstan_operator.desired.surroundings import Surroundings

MOST_TOLD: Final = 3
"""So many models are named."""


def tell_uncached(entry: PolicyEntry, around: Surroundings) -> Iterator[str]:
    """Say it, of the first models by name. One of the whole installation is for the members as well, and does what it
    is for."""
    if entry.targets is None or not entry.targets.everywhere:
        yield from _tell_virtual(around)
    semantic = read_cache_body(entry).semantic
    if semantic is not None:
        yield from _tell_unasked(semantic, around)


def _tell_virtual(around: Surroundings) -> Iterator[str]:
    found = [key.name for key in around.on if _only_chooses(around.served.get(key))]
    if not found:
        return
    names = ", ".join(f"'{name}'" for name in found[:MOST_TOLD])
    more = f" and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
    which = f"it keeps nothing for {names}{more}, which only choose{'s' if len(found) == 1 else ''} among others"
    yield f"{which}: the policies of those keep what they answer"


def _only_chooses(entry: ModelEntry | None) -> bool:
    return entry is not None and isinstance(entry.backend, RouterBackend | CascadeBackend)


def _tell_unasked(semantic: SemanticTier, around: Surroundings) -> Iterator[str]:
    if semantic.embedding and (why := around.lacks(key_of(semantic.embedding), task=Task.EMBED)) is not None:
        yield f"no questions are compared by what they mean, because {why}"
    if semantic.judge and (why := around.lacks(key_of(semantic.judge), task=Task.CHAT)) is not None:
        yield f"hits are compared by their vectors alone, because {why}"
