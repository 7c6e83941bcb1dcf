"""What answers say of caches in their heads. Pure, and apart from what knows policies."""

from enum import StrEnum
from typing import NamedTuple

from capstan_gateway.caches.port import Tier


class Word(StrEnum):
    """What the cache had to do with an answer."""

    HIT_MEMORY = "hit-memory"
    HIT_REDIS = "hit-redis"
    HIT_SEMANTIC = "hit-semantic"
    MISS = "miss"
    BYPASS = "bypass"
    STALE_REFUSED = "stale-refused"
    """What was there is older than the client takes."""


HITS = {Tier.MEMORY: Word.HIT_MEMORY, Tier.REDIS: Word.HIT_REDIS, Tier.SEMANTIC: Word.HIT_SEMANTIC}


class CacheNote(NamedTuple):
    """What is told of one answer."""

    word: Word
    key: str = ""
    """Names the entry, to who would purge it or report it as wrong."""
    age: int = 0
    """Seconds, of a hit."""
    similarity: float | None = None
    inputs: str = ""
    """How many inputs of how many were there, where some of a list are asked for."""


def cache_lines(note: CacheNote) -> bytes:
    """Give the header lines."""
    lines = f"x-cache: {note.word}\r\n"
    if note.key:
        lines += f"x-cache-key: {note.key}\r\n"
    if note.word in HITS.values():
        lines += f"age: {note.age}\r\n"
    if note.similarity is not None:
        lines += f"x-cache-similarity: {note.similarity:.3f}\r\n"
    if note.inputs:
        lines += f"x-cache-inputs: {note.inputs}\r\n"
    return lines.encode("ascii")
