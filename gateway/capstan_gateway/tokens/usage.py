"""Token counts out of an answer, without parsing the answer.

Inside a JSON string a quote is escaped, so the bytes `"usage"` with no backslash before them are a key. Only the object
after the last such key is parsed: a completion of 100 KB costs a search from its end, not a parse.
"""

from typing import Any, Final, NamedTuple

import orjson

KEY: Final = b'"usage"'
_HITS: Final = "prompt_cache_hit_tokens"
"""DeepSeek's name for input that came from a cache."""
MAX_OBJECT_BYTES: Final = 16 * 1024
"""A usage object is a few hundred bytes; more than this is not one."""


class Usage(NamedTuple):
    """What one answer cost, in tokens."""

    prompt_tokens: int
    """All of the input, cached or not."""
    completion_tokens: int
    cached_tokens: int = 0
    """Of the input, what was in a cache of the engine."""
    written_tokens: int = 0
    """Of the input, what the engine wrote into a cache, where that has a price of its own."""
    bare: bool = False
    """Whether only the sum of input and output was told; it stands in `prompt_tokens`."""


def find_usage(document: bytes) -> Usage | None:
    """Give the usage that this JSON document, or run of SSE frames, reports last; None when there is none."""
    found = find_object(document)
    return None if found is None else parse_usage(found)


def find_object(document: bytes) -> dict[str, Any] | None:
    """Give the last usage object in it, whatever API wrote it; None when there is none. It need not be whole JSON."""
    end = len(document)
    while (at := document.rfind(KEY, 0, end)) >= 0:
        if not document.endswith(b"\\", 0, at):
            found = _read_object(document, at + len(KEY))
            if found is not None:
                return found
        end = at
    return None


def parse_usage(found: Any) -> Usage | None:
    """Read a usage object as OpenAI, vLLM and their kin write it; None when it is not one."""
    if not isinstance(found, dict):
        return None
    prompt, completion = found.get("prompt_tokens"), found.get("completion_tokens")
    details = found.get("prompt_tokens_details")
    plain = details is None and _HITS not in found
    if plain and type(prompt) is int is type(completion) and not (prompt | completion) >> MOST_BITS:
        return Usage(prompt, completion)  # As nearly all say it: neither is negative, and neither too large.
    ins, out = count_of(prompt), count_of(completion)
    cached, written = count_of(found.get(_HITS)), 0
    if type(details) is dict:
        cached, written = count_of(details.get("cached_tokens")) or cached, written_of(details)
    if prompt is not None and completion is not None:
        return Usage(ins, out, cached, written)
    total = count_of(found.get("total_tokens"))
    if prompt is None and completion is None:
        return Usage(total, 0, bare=True) if total else None
    # One of the two and the sum: embeddings have no output, and some engines leave out what they did not count.
    rest = max(0, total - ins - out)
    return Usage(ins + rest, out, cached, written) if prompt is None else Usage(ins, out + rest, cached, written)


WRITTEN_NAMES: Final = ("cache_write_tokens", "cache_creation_tokens", "created_cache_tokens")
"""Under which names hosted APIs tell what went into their caches."""


def written_of(details: dict[str, Any]) -> int:
    """Give what these details of the input tell of tokens written into a cache."""
    return next((count for name in WRITTEN_NAMES if (count := count_of(details.get(name)))), 0)


def count_of(value: object) -> int:
    """Read a number of tokens; 0 for what is none."""
    if type(value) is int:
        return value if 0 < value < MOST_TOKENS else 0
    return int(value) if type(value) is float and 0 < value < MOST_TOKENS else 0


MOST_BITS: Final = 40
MOST_TOKENS: Final = 1 << MOST_BITS
"""What is larger is no count, and must not become money."""


def _read_object(document: bytes, start: int) -> dict[str, Any] | None:
    window = document[start : start + MAX_OBJECT_BYTES]
    stripped = window.lstrip()
    if not stripped.startswith(b":"):
        return None
    stripped = stripped[1:].lstrip()
    if not stripped.startswith(b"{"):
        return None
    end = _end_of_object(stripped)
    if end is None:
        return None
    try:
        parsed: dict[str, Any] = orjson.loads(stripped[:end])
    except orjson.JSONDecodeError:
        return None
    return parsed


def _end_of_object(text: bytes) -> int | None:
    """Give the position after the brace that closes the first one. Usage objects hold no strings with braces."""
    depth, at = 0, 0
    while True:
        close = text.find(b"}", at)
        if close < 0:
            return None
        depth += text.count(b"{", at, close) - 1
        at = close + 1
        if depth == 0:
            return at
