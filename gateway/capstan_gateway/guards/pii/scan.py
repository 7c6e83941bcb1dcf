"""What every recogniser is given, and finding matches that overlap."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import re2  # type: ignore[import-untyped]

from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.pii.raw import AFTER, BEFORE
from capstan_gateway.guards.pii.view import LATIN, View
from capstan_gateway.guards.pii.words import Hits, Word

_WORDLIKE: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") | {LATIN}


@dataclass(frozen=True, slots=True)
class Scanned:
    """A text that is looked at."""

    view: View
    hits: Hits
    least: float
    """What is less sure is wanted by nobody, and need not be looked at closer."""

    def near(
        self, words: Sequence[Word], start: int, end: int, *, before: int = BEFORE, after: int = AFTER
    ) -> int | None:
        """Give how far from a value the nearest of such words is, None where none is near."""
        return self.hits.distance(words, start, end, before=before, after=after)

    def begins(self, start: int) -> bool:
        """Tell whether no longer word is cut here. Scripts without blanks may touch a value."""
        return not start or self.view.folded[start - 1] not in _WORDLIKE

    def ends(self, end: int) -> bool:
        """Tell the same of an end."""
        return end >= len(self.view.folded) or self.view.folded[end] not in _WORDLIKE

    def alone(self, start: int, end: int) -> bool:
        """Tell whether a value is not a part of a longer word."""
        return self.begins(start) and self.ends(end)


def linear(pattern: bytes) -> "re2._Regexp[bytes]":
    """Compile an expression for folded texts, whose matching takes time that grows with the text alone."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(pattern, options)


def overlapping(pattern: Any, folded: bytes) -> Iterator[re.Match[bytes]]:
    """Give the matches at all places where one begins, those inside of others too.

    So it doesn't matter how many came before: in the middle of a text the same ones are found as from its beginning.
    """
    match = pattern.search(folded)
    while match is not None:
        go_on()
        yield match
        match = pattern.search(folded, match.start() + 1)
