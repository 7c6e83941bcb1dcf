"""One plain form of all the ways to write a letter: small, without marks, in ASCII where it looks like ASCII.

Each character becomes a text of its own, whatever stands beside it, so that

- the same is true of any piece of a text, and streams may be cut anywhere;
- the way back is known: it is reckoned only when somebody asks for it (`FoldMap`), which is where something was found.

What becomes of a character, in this order: of the tags that nobody sees (U+E0020 to U+E007E) the letter that they
stand for; nothing, where it has no width (joiners, marks of direction, variation selectors, combining marks, controls);
a space for all kinds of spaces; what it looks like (`confusables`); else its compatibility decomposition (NFKD) without
marks, small. What comes out is put in again until it stays as it is: folding twice is folding once.
"""

import codecs
import re
import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import Final

from capstan_gateway.guards.text.confusables import alike

_TAGS: Final = range(0xE0020, 0xE007F)
_INVISIBLE: Final = frozenset(
    (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, 0xFFFC, *range(0xE0000, 0xE1000), *range(0xFE00, 0xFE10))
)
"""Without a width, and not of a category that says so."""
_BLANK: Final = frozenset((0x2800, 0x0085, 0x1680, 0x180E))
_KEPT_CONTROLS: Final = frozenset("\t\n\r\v\f")
_LAST_LETTER: Final = 0x1FFFF
"""Behind it are ideographs, which stay as they are, and then what is invisible. All other forms are remembered: 16 MB
if somebody sends all that there are."""
_ALIKE: Final = alike()


class _Forms(dict[int, str]):
    """What each code point becomes, reckoned when it is first met. For `str.translate`."""

    def __missing__(self, point: int) -> str:
        if _LAST_LETTER < point < 0xE0000:
            return chr(point)
        form = self[point] = _form(chr(point))
        return form


def _form(character: str) -> str:
    for _ in range(8):
        after = "".join(map(_step, character))
        if after == character:
            break
        character = after
    return character


def _step(character: str) -> str:
    point = ord(character)
    if point < 128:
        return character.lower() if character.isprintable() or character in _KEPT_CONTROLS else ""
    if point in _TAGS:
        return chr(point - 0xE0000)
    category = unicodedata.category(character)
    if category == "Cs":
        return "\N{REPLACEMENT CHARACTER}"
    if category[0] == "Z" or point in _BLANK:
        return " "
    if category in ("Mn", "Me", "Cf", "Cc") or point in _INVISIBLE:
        return ""
    if point in _ALIKE:
        return _ALIKE[point]
    plain = unicodedata.normalize("NFKD", character.casefold())
    return unicodedata.normalize(
        "NFC", "".join(part for part in plain if unicodedata.category(part) not in ("Mn", "Me"))
    )


_FORMS: Final = _Forms()
_FOREIGN: Final = re.compile(r"[^\t-\r -~]+")
_CONTROLS: Final = bytes({*range(9), *range(14, 32), 127})
_FOLDING: Final = "capstan-fold"
"""How what is not ASCII is encoded: an error handler is called with each run of it, and with nothing else."""


def fold(text: str) -> str:
    """Give the plain form of a text; the same for what is folded already. It may be longer, up to 18 times."""
    # NB: `bytes.lower` knows ASCII only. `str.lower` would change what is folded to its large form (Cherokee).
    return text.encode("ascii", _FOLDING).translate(None, _CONTROLS).lower().decode()


def _fold_run(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return error.object[error.start : error.end].translate(_FORMS).encode(), error.end


codecs.register_error(_FOLDING, _fold_run)


def _is_plain(text: str) -> bool:
    """Tell whether each character stays where it is."""
    return text.isascii() and len(text.encode().translate(None, _CONTROLS)) == len(text)


def _length(character: str) -> int:
    return len(_FORMS[ord(character)])


class FoldMap:
    """Where the characters of a folded text come from."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._runs: list[tuple[int, int]] = []
        """Of each run of what is not plain: where it begins in the folded text, and in this one."""
        self._ends: list[tuple[int, int]] = []
        """The same of where it ends."""
        self._inside: dict[int, list[int]] = {}
        """Of a run that was asked about: where each of its characters ends."""
        grown = 0
        for run in () if _is_plain(text) else _FOREIGN.finditer(text):
            self._runs.append((run.start() + grown, run.start()))
            grown += len(run[0].translate(_FORMS)) - len(run[0])
            self._ends.append((run.end() + grown, run.end()))

    def back(self, start: int, end: int) -> tuple[int, int]:
        """Give the place in the text of a place in its folded form: all characters that have a part in it."""
        first, behind = self._character(start)
        if end > start:
            behind = self._character(end - 1)[1]
        return first, max(first, behind)

    def _character(self, at: int) -> tuple[int, int]:
        """Give the character of which the one at a place is a part: where it begins, and where it ends."""
        number = bisect_right(self._runs, (at, len(self._text))) - 1
        if number < 0:
            return self._within(at)
        folded_end, end = self._ends[number]
        if at >= folded_end:
            return self._within(end + at - folded_end)
        place, begins = self._runs[number]
        inside = self._inside.get(number)
        if inside is None:
            inside = self._inside[number] = list(accumulate(map(_length, self._text[begins:end])))
        offset = bisect_right(inside, at - place)
        return begins + offset, begins + offset + 1

    def _within(self, at: int) -> tuple[int, int]:
        return min(at, len(self._text)), min(at + 1, len(self._text))
