"""What two answers have in common, and what only one of them says, word by word."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final

from capstan_evaluation.reports.html.markup import Html, element, escape, join

_WORDS: Final = re.compile(r"\s*\w+|\s*[^\w\s]|\s+")
"""Each with the white space before it."""
_LINES: Final = re.compile(r"[^\n]*\n|[^\n]+")
_MOST_PAIRS: Final = 1_000_000
"""Pairs of words that may be compared: what takes longer than a tenth of a second is compared by lines."""


def mark_differences(before: str, now: str) -> tuple[Html, Html]:
    """Give both texts as markup: in the first `<del>` is what the second has not, in the second `<ins>` what is new.

    Texts that are too long to compare word by word are compared line by line, and those with too many lines not at all.
    """
    for pattern in (_WORDS, _LINES):
        old, new = pattern.findall(before), pattern.findall(now)
        first, last = _same_ends(old, new)
        middle_old, middle_new = old[first : len(old) - last], new[first : len(new) - last]
        if len(middle_old) * len(middle_new) <= _MOST_PAIRS:
            start, end = "".join(new[:first]), "".join(new[len(new) - last :])
            marked = _mark(middle_old, middle_new)
            return join(start, marked[0], end), join(start, marked[1], end)
    return escape(before), escape(now)


def _same_ends(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """Give how many pieces both have alike at the beginning, and behind those at the end."""
    shorter = min(len(old), len(new))
    first = next((place for place in range(shorter) if old[place] != new[place]), shorter)
    rest = shorter - first
    last = next((place for place in range(rest) if old[-1 - place] != new[-1 - place]), rest)
    return first, last


def _mark(old: Sequence[str], new: Sequence[str]) -> tuple[Html, Html]:
    left: list[Html] = []
    right: list[Html] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        gone, came = "".join(old[a:b]), "".join(new[c:d])
        if kind == "equal":
            left.append(escape(gone))
            right.append(escape(came))
            continue
        left.append(element("del", gone) if gone else Html(""))
        right.append(element("ins", came) if came else Html(""))
    return join(left), join(right)
