"""Texts such that what differs in case, width, composition or blanks is the same, and the way back.

Of each character by itself: its compatibility decomposition (NFKD), without case, and once more decomposed; the Latin
letter that it looks like, if it is one of another alphabet; nothing of what has no width (joiners, soft hyphens,
variation selectors, fillers); one apostrophe, quote and hyphen of each kind; one blank for each kind of white space.
Then every row of blanks is one. Marks stay: `cafe` is no `café`. In Turkish `I` may stand for an i with a dot or
without: all are i.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from capstan_contract.codes import BRAILLE_BLANK, UNSEEN
from capstan_gateway.guards.text.confusables import alike_letters, alike_signs

_ROWS: Final = re.compile(" {2,}")
_ASCII_BLANKS: Final = re.compile(r"[\t\n\r\v\f\x1c-\x1f]")
_ALIKE: Final = alike_letters()
_SIGNS: Final = alike_signs()
_MOST_KNOWN: Final = 65_536
_I: Final = {"\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}": "i", "\N{LATIN SMALL LETTER DOTLESS I}": "i"}


class Forms(dict[int, str]):
    """What each code point becomes, reckoned when it is first met. For `str.translate`."""

    def __init__(self, *, keep_case: bool) -> None:
        super().__init__()
        self._keep_case = keep_case

    def __missing__(self, point: int) -> str:
        """Reckon one."""
        form = self._form(chr(point))
        if len(self) < _MOST_KNOWN:
            self[point] = form
        return form

    def _form(self, character: str) -> str:
        if character.isspace() or character == BRAILLE_BLANK:
            return " "
        if (sign := _SIGNS.get(ord(character))) is not None:
            return sign
        if unicodedata.category(character) == "Cf" or ord(character) in UNSEEN:
            return ""
        if not self._keep_case and (character in _I or ord(character) in _ALIKE):
            return _I.get(character) or _ALIKE[ord(character)]
        if "\uac00" <= character <= "\ud7a3":
            return character  # of a syllable of Hangul one that is shorter is no part
        plain = unicodedata.normalize("NFKD", character)
        if not self._keep_case:
            plain = unicodedata.normalize("NFKD", plain.casefold())
        return "".join(" " if part.isspace() else self._plain(part) for part in plain)

    def _plain(self, part: str) -> str:
        """Give the Latin letter that one looks like, large or small as it is itself."""
        if (same := _ALIKE.get(ord(part))) is not None:
            return same
        small = part.lower()
        if self._keep_case and len(small) == 1 and (same := _ALIKE.get(ord(small))) is not None:
            return same.upper()
        return part


_FORMS: Final = {keep_case: Forms(keep_case=keep_case) for keep_case in (False, True)}


class Folded:
    """A text in its plain form."""

    __slots__ = ("_ends", "_forms", "_original", "_rows", "text")

    def __init__(self, text: str, *, keep_case: bool = False) -> None:
        self._original = text
        self._forms = _FORMS[keep_case]
        if text.isascii():
            plain = _ASCII_BLANKS.sub(" ", text if keep_case else text.lower())
        else:
            plain = text.translate(self._forms)
        self.text: str = plain if "  " not in plain else _ROWS.sub(" ", plain)
        """What it has become."""
        self._rows: tuple[Sequence[int], Sequence[int]] | None = None
        self._ends: list[int] | None = None
        if len(self.text) < len(plain):
            self._rows = _shortened(plain)

    def is_ascii(self, start: int, end: int) -> bool:
        """Say whether a place of the text, as it came, is in plain letters."""
        return self._original[start:end].isascii()

    def back(self, start: int, end: int) -> tuple[int, int]:
        """Give the place in the text of a place in its plain form: all characters that have a part in it."""
        if self._rows is not None:
            start, end = _before(self._rows, start), _before(self._rows, end - 1) + 1
        if self._original.isascii():
            return start, end
        if self._ends is None:
            self._ends = list(accumulate(len(self._forms[ord(character)]) for character in self._original))
        return bisect_right(self._ends, start), bisect_right(self._ends, end - 1) + 1


def _shortened(plain: str) -> tuple[Sequence[int], Sequence[int]]:
    """Give where in the short form each row of blanks has ended, and how many were left out up to there."""
    places, counts, gone = [], [], 0
    for row in _ROWS.finditer(plain):
        places.append(row.start() - gone + 1)
        gone += row.end() - row.start() - 1
        counts.append(gone)
    return places, counts


def _before(rows: tuple[Sequence[int], Sequence[int]], place: int) -> int:
    """Give where something was before rows of blanks became one."""
    places, counts = rows
    number = bisect_right(places, place)
    return place + (counts[number - 1] if number else 0)


def looks_latin(text: str) -> bool:
    """Say whether letters of another alphabet are in a text that look like Latin ones."""
    return not text.isascii() and any(ord(letter) in _ALIKE for letter in text.lower())
