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

_MEMORY: Final = 32 << 20
_WORDLIKE: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") | {LATIN}
COLUMNS: Final = re.compile(rb"\|[ :]*-{2}|\n[^\n]*?[^\s|][^\n]*?[,;|\t]")
"""The head of a table, or a line that has begun with another cell: words in front of it name other columns."""
_ENDED: Final = re.compile(
    rb"[a-z\xe9\xff]{4}[.!?] |[.!?;\n][^\n]*?[A-Za-z\xe9\xff]{4}|\d[^\n]*\n[^\n]*?[A-Za-z\xe9\xff]"
    rb"|\d[^\n]*?[ \xa7][^\n]*?[A-Za-z\xe9\xff]{4}|[\"'] ?[,}]\s*[\"'][A-Za-z]|\d[^\n]*</"
    rb"|\|[ :]*-{2}|\n[^\n]*?[^\s|][^\n]*?[,;|\t]"
)
"""What ends of what a word speaks: a sentence, a line or an element that has its value, the next key of an object, the
head of a table."""


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

    def told(self, words: Sequence[Word], start: int, *, before: int = 32) -> int | None:
        """Give how far in front of a value the nearest of such words is that speaks of it; None where none does.

        A word speaks of nothing beyond the end of its sentence, nor of its line where a value of its own stands there;
        a key of an object speaks of its own value.
        """
        distance = self.hits.distance(words, start, start, before=before, after=0)
        if distance is None or _ENDED.search(self.view.folded, start - distance, start) is not None:
            return None
        return distance

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


def linear_set(patterns: Sequence[bytes]) -> "re2.Set":
    """Compile several such expressions, to be asked in one pass which of them match anywhere."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    # NB: a set whose automaton has no room would say that nothing matches; this one has it.
    options.max_mem = _MEMORY
    found = re2.Set.SearchSet(options)
    for pattern in patterns:
        found.Add(pattern)
    found.Compile()
    return found


def overlapping(pattern: Any, folded: bytes) -> Iterator[re.Match[bytes]]:
    """Give the matches at all places where one begins, those inside of others too.

    So it doesn't matter how many came before: in the middle of a text the same ones are found as from its beginning.
    """
    match = pattern.search(folded)
    while match is not None:
        go_on()
        yield match
        match = pattern.search(folded, match.start() + 1)
