"""Whether two answers say the same, without asking anybody. Pure.

    the same words, or one is within the other                     same
    yes against no; numbers, and none in common                    other
    by the cosine of their vectors: from SAME_AT on                same
                                    below OTHER_BELOW              other
                                    between                        nobody can tell: it is counted as neither

The bounds are for all-MiniLM-L6-v2: an answer said in other words is seldom below 0.8, one to another question seldom
above 0.75. What lies between is what a judge is for.
"""

import re
import unicodedata
from enum import StrEnum
from typing import Final

SAME_AT: Final = 0.8
OTHER_BELOW: Final = 0.6
MOST_CHARS: Final = 16_000
"""Of an answer its beginning is compared."""
_WORDS: Final = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER: Final = re.compile(r"\d")
_YES: Final = frozenset(("yes", "yeah", "yep", "true", "correct"))
_NO: Final = frozenset(("no", "nope", "false", "incorrect"))
_NEGATIONS: Final = frozenset(("no", "not", "never", "cannot", "nor", "none", "without"))


class Verdict(StrEnum):
    """What two answers are to each other."""

    SAME = "right"
    OTHER = "wrong"
    UNKNOWN = "undecided"


def by_words(one: str, other: str) -> Verdict:
    """Tell by their words alone; UNKNOWN where those say nothing."""
    first, second = _words(one), _words(other)
    if first == second:
        return Verdict.SAME if first else (Verdict.SAME if one.strip() == other.strip() else Verdict.OTHER)
    if not first or not second:
        return Verdict.OTHER
    if (first[0] in _YES and second[0] in _NO) or (first[0] in _NO and second[0] in _YES):
        return Verdict.OTHER
    mine, theirs = _numbers(first), _numbers(second)
    if mine and theirs and mine.isdisjoint(theirs):
        return Verdict.OTHER
    if _negates(first) == _negates(second) and (_within(first, second) or _within(second, first)):
        return Verdict.SAME
    return Verdict.UNKNOWN


def by_likeness(cosine: float) -> Verdict:
    """Tell by how alike their vectors are."""
    if cosine >= SAME_AT:
        return Verdict.SAME
    return Verdict.OTHER if cosine < OTHER_BELOW else Verdict.UNKNOWN


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", text[:MOST_CHARS]).casefold().replace("\u2019", "'")
    return _WORDS.findall(_THOUSANDS.sub("", plain))


def _numbers(words: list[str]) -> set[str]:
    return {word for word in words if _NUMBER.match(word)}


def _negates(words: list[str]) -> bool:
    return any(word in _NEGATIONS or word.endswith("n't") for word in words)


def _within(few: list[str], many: list[str]) -> bool:
    """Whether the words of one stand in the other, in one run."""
    size = len(few)
    return size < len(many) and any(many[at : at + size] == few for at in range(len(many) - size + 1))
