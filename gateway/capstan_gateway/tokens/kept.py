"""Tokens of prompts that were made of them lately, found again by what the prompts say.

By the names of `tokens.prefixes`. An earlier name is that of the conversation as it was some turns ago: its tokens are
how the prompt begins, but for the last of them, which templates put behind the last message alone.
"""

import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

MOST_BYTES: Final = 32 * 1024 * 1024
"""Eight million tokens: the prompt that was used longest ago goes first."""
KEPT_SECONDS: Final = 900.0
"""How long tokens are believed: an engine may be replaced by one with another template."""
FORGOTTEN_AT_ONCE: Final = 1000
"""Prompts that are given up in one go: a fraction of a millisecond."""
_OF_A_PROMPT: Final = 300
"""Bytes that each takes beside its tokens."""
TOKEN_CODE: Final = next(code for code in "IL" if array(code).itemsize == 4)


class Beginning(NamedTuple):
    """What is known of a prompt."""

    whole: bool
    """Whether these are all of its tokens."""
    tokens: Sequence[int]


def packed(tokens: Iterable[int]) -> "array[int]":
    """Give tokens as they are kept. Raises OverflowError or TypeError for what is no token."""
    return array(TOKEN_CODE, tokens)


class KeptTokens:
    """The tokens by name. In the loop's thread only."""

    def __init__(
        self, clock: Callable[[], float], *, most_bytes: int = MOST_BYTES, seconds: float = KEPT_SECONDS
    ) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._kept: OrderedDict[bytes, tuple[array[int], float]] = OrderedDict()
        self.bytes = 0
        """What they take."""

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, name: bytes, tokens: "array[int]") -> None:
        """Keep the tokens of a prompt."""
        self._drop(name)
        self._kept[name] = tokens, self._clock() + self._seconds
        self.bytes += _size(tokens)
        while self.bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def forget(self) -> None:
        """Give up those that are over, the one that was used longest ago first: tokens are what a prompt says. Called
        every few seconds, none is there for longer than twice the time for which it is believed."""
        now, kept = self._clock(), self._kept
        for _ in range(min(FORGOTTEN_AT_ONCE, len(kept))):
            name = next(iter(kept))
            if now < kept[name][1]:
                return
            self._drop(name)

    def find(self, names: Sequence[bytes]) -> Beginning | None:
        """Give the tokens of the longest beginning that is known."""
        now, kept = self._clock(), self._kept
        for length in range(len(names), 0, -1):
            name = names[length - 1]
            found = kept.get(name)
            if found is not None and now < found[1]:
                kept[name] = kept.pop(name)
                return Beginning(length == len(names), found[0])
        return None

    def _drop(self, name: bytes) -> None:
        found = self._kept.pop(name, None)
        if found is not None:
            self.bytes -= _size(found[0])


def _size(tokens: "array[int]") -> int:
    return sys.getsizeof(tokens) + _OF_A_PROMPT
