"""Thousands of words in one pass over a text (Aho-Corasick), wherever they stand or as whole words.

A word ends where a letter, digit, mark or `_` is followed by something else (Unicode's categories); up to three `_`
around it that join it to nothing are emphasis (Markdown), and no part of it. Scripts that set no
blanks between words have no such places: at a character of one of them a word may begin and end anywhere.
"""

import unicodedata
from bisect import bisect_left
from collections.abc import Container, Iterator, Sequence
from functools import lru_cache
from typing import Final

import ahocorasick_rs

from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.plain.folding import Folded, looks_latin

MOST_WORDS: Final = 50_000
MOST_LENGTH: Final = 256
"""Characters of a word, in its plain form."""
MOST_WITHIN: Final = 64
"""How many words may end in one another, as `a`, `ba` and `cba` do: so many may be found at one place."""
UNSEEN: Final = 64
"""Characters of no width, and blanks above one, that may stand within a word, for which a stream is held back."""
PART: Final = 64 * 1024
"""Characters that are looked at in one go, so that what is found in them needs no memory to speak of."""
MARKS: Final = 3
_UNSPACED: Final = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR", "BOPOMOFO", "TIBETAN")

Span = tuple[int, int]


class Words:
    """Words, in their plain form, that are looked for together."""

    def __init__(self, words: Sequence[str], *, whole: bool, foreign: Container[str] = ()) -> None:
        """Make it. `foreign` are those of the words that are not found where they stand in ASCII."""
        self.words = words
        self._foreign = frozenset(number for number, word in enumerate(words) if word in foreign)
        self._whole = whole
        self._sorted = sorted(words)
        self.longest = max(map(len, words))
        self._automaton = ahocorasick_rs.AhoCorasick(words, implementation=_implementation(words))

    def spans(self, folded: str) -> Iterator[tuple[int, int, int]]:
        """Give the places of words with their numbers, by where they end; they may overlap."""
        step = max(PART, 4 * self.longest)
        for begin in range(0, max(1, len(folded)), step):
            front = max(0, begin - self.longest)
            piece = folded[front : begin + step]
            for number, start, end in self._automaton.find_matches_as_indexes(piece, overlapping=True):
                go_on()
                if front + end > begin and self._stands(folded, front + start, front + end):
                    yield front + start, front + end, number

    def places(self, folded: Folded) -> Iterator[tuple[int, int, int]]:
        """Give the places of words in the text that this is the plain form of, and their numbers, by where they end."""
        for start, end, number in self.spans(folded.text):
            place = folded.back(start, end)
            if number not in self._foreign or not folded.is_ascii(*place):
                yield *place, number

    def _stands(self, folded: str, start: int, end: int) -> bool:
        if end < len(folded) and unicodedata.combining(folded[end]):
            return False
        if not self._whole:
            return True
        begins = (
            not start
            or not joins(folded[start - 1], folded[start])
            or _emphasised(folded[max(0, start - MARKS - 1) : start][::-1])
        )
        ends = (
            end == len(folded) or not joins(folded[end - 1], folded[end]) or _emphasised(folded[end : end + MARKS + 1])
        )
        return begins and ends

    def pending(self, folded: str) -> int:
        """Give where the first word begins that what is to come may complete, or make another one of."""
        marks = MARKS if folded.endswith("_") and self._whole else 0
        plain = folded[:-MARKS] + folded[-MARKS:].rstrip("_") if marks else folded
        for start in range(max(0, len(folded) - self.longest - marks), len(folded)):
            # NB: what follows says whether underscores behind a word are a part of it.
            rest = plain[start:] or folded[start:]
            place = bisect_left(self._sorted, rest)
            if place < len(self._sorted) and self._sorted[place].startswith(rest):
                return start
        return len(folded)

    @property
    def reach(self) -> int:
        """Characters in front of a place that matter there: the longest word, with what has no width in it, and a
        character on both sides."""
        return 2 * self.longest + UNSEEN + 2

    def safe_end(self, text: str, *, keep_case: bool = False) -> int:
        """Give up to where a text of which more is to come is decided: no word in front of it changes any more."""
        offset = max(0, len(text) - 2 * self.reach)
        folded = Folded(text[offset:], keep_case=keep_case)
        return max(0, len(text) - self.reach, offset + self.decided(folded, len(text) - offset))

    def decided(self, folded: Folded, length: int) -> int:
        """Give up to where a text of this length, of which more is to come, is decided: in front of what is pending,
        and inside of no word."""
        pending = self.pending(folded.text)
        place = length if pending >= len(folded.text) else folded.back(pending, pending + 1)[0]
        places = (folded.back(start, end) for start, end, _ in self.spans(folded.text))
        for start, end in sorted(places, key=lambda span: -span[1]):
            if start < place < end:
                place = start
        return place


def _emphasised(around: str) -> bool:
    """Tell whether what stands beside a word, the nearest first, is emphasis: underscores, and behind them no word."""
    beyond = around.lstrip("_")
    return len(beyond) < len(around) and (not beyond or not _is_of_word(beyond[0])) and around[MARKS:] != "_"


def _implementation(words: Sequence[str]) -> "ahocorasick_rs.Implementation":
    if sum(map(len, words)) < 20_000:
        return ahocorasick_rs.Implementation.DFA
    return ahocorasick_rs.Implementation.ContiguousNFA


@lru_cache(65_536)
def _is_of_word(character: str) -> bool:
    return character == "_" or unicodedata.category(character)[0] in "LNM"


@lru_cache(65_536)
def _is_unspaced(character: str) -> bool:
    return character > "\x7f" and unicodedata.name(character, "").startswith(_UNSPACED)


def joins(one: str, other: str) -> bool:
    """Say whether two characters that stand side by side are of one word."""
    if not (_is_of_word(one) and _is_of_word(other)):
        return False
    return bool(unicodedata.combining(other)) or not (_is_unspaced(one) or _is_unspaced(other))


def foreign_words(words: Sequence[str], *, keep_case: bool = False) -> frozenset[str]:
    r"""Give the plain forms of words that are spelt in another alphabet, and look like a word in ASCII in all letters:
    `\u0441\u043e\u0440` is Russian, and no `cop`."""
    plain: dict[bool, set[str]] = {True: set(), False: set()}
    for word in words:
        foreign = looks_latin(word) and not any(letter.isascii() and letter.isalpha() for letter in word)
        plain[foreign].add(Folded(word, keep_case=keep_case).text.strip())
    return frozenset(word for word in plain[True] - plain[False] if word.isascii())


def plain_words(words: Sequence[str], *, what: str, keep_case: bool = False) -> list[str]:
    """Give words in their plain form, each once. Raises ValueError, naming the word that cannot be looked for."""
    found: dict[str, None] = {}
    for word in words:
        plain = Folded(word, keep_case=keep_case).text.strip()
        if not plain:
            raise ValueError(f"`{what}` has an empty word: {word[:40]!r}")
        if len(plain) > MOST_LENGTH:
            raise ValueError(f"`{what}` has a word of {len(plain)} characters; {MOST_LENGTH} are allowed")
        found[plain] = None
    if not 1 <= len(found) <= MOST_WORDS:
        raise ValueError(f"`{what}` has {len(found)} words; 1 to {MOST_WORDS} are allowed")
    most, word = max((sum(word[at:] in found for at in range(len(word))), word) for word in found)
    if most > MOST_WITHIN:
        raise ValueError(f"`{what}` has {most} words that end {word[:40]!r}; {MOST_WITHIN} are allowed")
    return list(found)
