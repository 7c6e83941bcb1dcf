"""Token counts out of an answer, without parsing the answer.

Inside a JSON string a quote is escaped, so the bytes `"usage"` with no backslash before them are a key. Only the object
after the last such key is parsed: a completion of 100 KB costs a search from its end, not a parse.
"""

from typing import Any, Final, NamedTuple

import orjson

KEY: Final = b'"usage"'
_KEPT: Final = "cache_creation_token_details"
"""LiteLLM's name for how long what Anthropic wrote into its cache is kept."""
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
    hour_tokens: int = 0
    """Of what was written into a cache, what is kept there for an hour."""
    audio_tokens: int = 0
    """Of the input, what is sound."""
    thought_tokens: int = 0
    """Of the output, what are thoughts."""
    spoken_tokens: int = 0
    """Of the output, what is sound."""
    reckoned: bool = False
    """Whether no tokens were told, and these follow from something else that was: seconds of sound."""
    sound_seconds: int = 0
    """How long the sound was that was heard, rounded up; 0 where there was none, or nobody tells."""


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
    if len(found) == SUMMED and prompt is not None and completion is not None and "total_tokens" in found:
        detailed, plain = False, True  # There is no room for anything else in it, and nothing to be looked for.
    else:
        detailed = details is not None or "completion_tokens_details" in found
        plain = not detailed and _HITS not in found
    if plain and type(prompt) is int is type(completion) and not (prompt | completion) >> MOST_BITS:
        # As nearly all say it: neither is negative, and neither too large.
        # NB: the constructor of a named tuple of Python's takes longer than all of this.
        return tuple.__new__(Usage, (prompt, completion, 0, 0, False, 0, 0, 0, 0, False, 0))
    ins, out = count_of(prompt), count_of(completion)
    cached, written = count_of(found.get(_HITS)), 0
    kinds: tuple[int, int, int, int] | tuple[()] = ()
    if type(details) is dict:
        cached, written = count_of(details.get("cached_tokens")) or cached, written_of(details)
    if detailed:
        kinds = kinds_of(details, found.get("completion_tokens_details"))
    total = count_of(found.get("total_tokens"))
    if prompt is not None and completion is not None:
        if kinds and kinds[2] and total == ins + out + kinds[2]:
            out += kinds[2]  # Some hosted APIs (xAI, Gemini) count thoughts beside the output, not within it.
        return Usage(ins, out, cached, written, False, *kinds)
    if prompt is None and completion is None:
        return Usage(total, 0, bare=True) if total else None
    # One of the two and the sum: embeddings have no output, and some engines leave out what they did not count.
    rest = max(0, total - ins - out)
    ins, out = (ins + rest, out) if prompt is None else (ins, out + rest)
    return Usage(ins, out, cached, written, False, *kinds)


def kinds_of(of_input: object, of_output: object) -> tuple[int, int, int, int]:
    """Give what details of input and output tell of kinds with prices of their own: `Usage.hour_tokens` and behind."""
    hour = audio = thought = spoken = 0
    if type(of_input) is dict:
        kept, audio = of_input.get(_KEPT), count_of(of_input.get("audio_tokens"))
        hour = count_of(kept.get("ephemeral_1h_input_tokens")) if type(kept) is dict else 0
    if type(of_output) is dict:
        thought, spoken = count_of(of_output.get("reasoning_tokens")), count_of(of_output.get("audio_tokens"))
    return hour, audio, thought, spoken


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


SUMMED: Final = 3
"""Input, output and their sum: the numbers that a usage has at least."""
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
