"""Counts of prompts, found again by what the prompts say. No prompt is kept, and nobody can tell one from its name.

    names    of a conversation: the first message, the first two, ... all of them, each by a keyed hash of the name
             before it and of the message; in front of all stands what else the prompt is made of (tools, a template)
    known    by the last name: the count. By an earlier one: that of the conversation as it was some turns ago

What an earlier name tells is no part of the count: a template may drop thoughts of earlier turns, or put something in
front of the last one. It makes the better estimate: only what came since is estimated.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from capstan_gateway.documents import TooDeep, to_json

MOST_COUNTS: Final = 16_384
"""Counts that are kept; the one that was used longest ago goes first. Each takes about 250 bytes, however long its
prompt is."""
KEPT_SECONDS: Final = 900.0
"""How long a count is believed: an engine may be replaced by one with another template."""
NAME_BYTES: Final = 16
_NOT_OF_PROMPT: Final = frozenset((
    "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages", "metadata",
    "min_p", "min_tokens", "model", "n", "presence_penalty", "prompt_cache_key", "repetition_penalty", "seed",
    "service_tier", "stop", "store", "stream", "stream_options", "temperature", "top_k", "top_logprobs", "top_p",
    "user",
))  # fmt: skip
"""Fields of a request that are no part of its prompt, in any template. Of others nobody knows."""


def names_of(document: Mapping[str, Any], *, key: bytes, counter: str) -> list[bytes]:
    """Give the names of a prompt's beginnings for one counter, the whole of it last; none where it cannot be written.

    `key` has at most 64 bytes. The time that it takes is in proportion to the document.
    """
    rest = {field: value for field, value in document.items() if field not in _NOT_OF_PROMPT}
    messages = document.get("messages")
    try:
        name = _hash(key, counter.encode("utf-8", "surrogatepass"), to_json(dict(sorted(rest.items()))))
        if not isinstance(messages, list) or not messages:
            return [name]
        names = []
        for message in messages:
            name = _hash(key, name, to_json(message))
            names.append(name)
    except (TooDeep, TypeError):
        return []
    return names


def _hash(key: bytes, before: bytes, more: bytes) -> bytes:
    hashed = blake2b(b"%d:%b" % (len(before), before), key=key, digest_size=NAME_BYTES)
    hashed.update(more)
    return hashed.digest()


class Known(NamedTuple):
    """What is known of a prompt."""

    beginning: int
    """How many of its names, from the first, are those of the prompt that was counted."""
    tokens: int
    """How many that one has."""


class PromptCounts:
    """The counts by name. In the loop's thread only."""

    def __init__(self, clock: Callable[[], float], *, most: int = MOST_COUNTS, seconds: float = KEPT_SECONDS) -> None:
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._counts: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def put(self, name: bytes, tokens: int) -> None:
        """Keep a count."""
        counts = self._counts
        counts.pop(name, None)
        counts[name] = tokens, self._clock() + self._seconds
        if len(counts) > self._most:
            counts.popitem(last=False)

    def find(self, names: Sequence[bytes]) -> Known | None:
        """Give the count of the longest beginning that has one."""
        now, counts = self._clock(), self._counts
        for length in range(len(names), 0, -1):
            name = names[length - 1]
            found = counts.get(name)
            if found is not None and now < found[1]:
                counts[name] = counts.pop(name)
                return Known(length, found[0])
        return None
