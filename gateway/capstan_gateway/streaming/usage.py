"""Token counts out of an answer, without parsing the answer.

Inside a JSON string a quote is escaped, so the bytes `"usage"` with no backslash before them are a key. Only the object
after the last such key is parsed: a completion of 100 KB costs a search from its end, not a parse.
"""

from typing import Any, Final, NamedTuple

import orjson

KEY: Final = b'"usage"'
MAX_OBJECT_BYTES: Final = 16 * 1024
"""A usage object is a few hundred bytes; more than this is not one."""


class Usage(NamedTuple):
    """What one answer cost, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


def find_usage(document: bytes) -> Usage | None:
    """Give the usage that this JSON document, or run of SSE frames, reports last; None when there is none."""
    end = len(document)
    while (at := document.rfind(KEY, 0, end)) >= 0:
        if at == 0 or document[at - 1 : at] != b"\\":
            found = _read_object(document, at + len(KEY))
            if found is not None:
                return parse_usage(found)
        end = at
    return None


def parse_usage(found: Any) -> Usage | None:
    """Read a usage object as OpenAI, vLLM and their kin write it; None when it is not one."""
    if not isinstance(found, dict):
        return None
    details = found.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    prompt, completion = found.get("prompt_tokens"), found.get("completion_tokens")
    if prompt is None and completion is None:
        return None
    return Usage(_count(prompt), _count(completion), cached)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _read_object(document: bytes, start: int) -> dict[str, Any] | None:
    window = document[start : start + MAX_OBJECT_BYTES]
    stripped = window.lstrip(b" \t\r\n")
    if not stripped.startswith(b":"):
        return None
    stripped = stripped[1:].lstrip(b" \t\r\n")
    if not stripped.startswith(b"{"):
        return None
    end = _end_of_object(stripped)
    if end is None:
        return None
    try:
        parsed = orjson.loads(stripped[:end])
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


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
