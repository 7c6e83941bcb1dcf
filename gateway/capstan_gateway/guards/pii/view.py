"""A text as the recognisers see it: one byte for each of its characters, so that offsets are the same in both.

ASCII is itself. What only looks different is folded: digits, letters and signs of other widths and scripts become ASCII
where they mean the same, all blanks and dashes one each. Letters that have no such twin are one of two bytes, by
whether they are Latin; what nobody sees (zero width, soft hyphen) is another, which may stand inside a value. Escapes
of JSON and of most languages become what they stand for: `\\n` in a tool's arguments ends a word there as a line end
does.
"""

import codecs
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

LATIN: Final = 0xE9
"""A letter of Latin script beyond ASCII."""
LETTER: Final = 0xFF
"""A letter, or a mark on one, of any other script."""
UNSEEN: Final = 0xAD
SIGN: Final = 0xA7
"""Anything else."""

_DASHES: Final = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d")
_LINES: Final = frozenset("\x85\u2028\u2029")
_MOST_KNOWN: Final = 8192
HIDDEN: Final = "\0"
_LETTERS: Final = re.compile(r"\\{1,2}u((?!00[0-7])[0-9a-f]{4})")
_MOST_BACKSLASHES: Final = 32
"""A longer row of them says nothing: which of them escapes which would depend on how long it is."""
_ESCAPES: Final = re.compile(rb"\\+(?:u[0-9A-Fa-f]{4}|[nrtbf\"/])?")
_AROUND: Final = re.compile(
    rb"_(?<![0-9A-Za-z_\xe9\xff]_)_{0,2}(?=[0-9A-Za-z\xe9\xff+(])"
    rb"|_(?<=[0-9A-Za-z\xe9\xff)]_)_{0,2}(?=[\s,;:!?)\]}\"'*|<>]|\.(?:\s|\Z)|\Z)"
)
"""Underscores of Markdown, which begin and end a word and are no part of it."""
_MEANT: Final = {ord("n"): b"\n", ord("r"): b"\n", ord("t"): b"\t", ord("b"): b" ", ord("f"): b"\n"}


@dataclass(frozen=True, slots=True)
class View:
    """A text, and what recognisers look at."""

    text: str
    folded: bytes
    """A byte for each character."""
    lowered: str
    """The text in lower case; as long as the text. Of an escaped letter the last character is it, the others HIDDEN."""


def view_of(text: str) -> View:
    """Give the view of a text, in time that grows with its length."""
    folded, lowered = text.encode("ascii", _FOREIGN), text.lower()
    if len(lowered) != len(text):
        lowered = "".join(low if len(low := character.lower()) == 1 else character for character in text)
    if b"_" in folded:
        folded = _AROUND.sub(_signs, folded)
    if b"\\" in folded:
        folded = _ESCAPES.sub(_unescaped, folded)
        if "\\u" in lowered:
            lowered = _LETTERS.sub(_letter, lowered)
    return View(text, folded, fold_sigma(lowered))


def _letter(match: re.Match[str]) -> str:
    """Give an escaped letter in lower case, in as many characters."""
    low = chr(int(match[1], 16)).lower()
    return HIDDEN * (len(match[0]) - 1) + low if len(low) == 1 and not "\ud800" <= low <= "\udfff" else match[0]


def fold_sigma(lowered: str) -> str:
    """Give a text with one small sigma only: which of two a capital one becomes depends on what is around it."""
    return lowered.replace("\N{GREEK SMALL LETTER FINAL SIGMA}", "\N{GREEK SMALL LETTER SIGMA}")


class _Bytes(dict[int, int]):
    """The byte of each code point, reckoned when it is first met. For `str.translate`."""

    def __missing__(self, point: int) -> int:
        byte = _folded(chr(point))
        if len(self) < _MOST_KNOWN:
            self[point] = byte
        return byte


_BYTES: Final = _Bytes()
_FOREIGN: Final = "capstan-pii-view"
"""How what is not ASCII is encoded: an error handler is called with each run of it, and with nothing else."""


def _encode_run(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    run = error.object[error.start : error.end]
    return run.translate(_BYTES).encode("latin-1"), error.end


codecs.register_error(_FOREIGN, _encode_run)


def _folded(character: str) -> int:
    """Give the byte of a character."""
    if character < "\x80":
        return ord(character)
    if character in _LINES:
        return ord("\n")
    if character in _DASHES:
        return ord("-")
    return _folded_by_category(character)


def _folded_by_category(character: str) -> int:
    category = unicodedata.category(character)
    if category == "Nd":
        return ord("0") + unicodedata.decimal(character)
    if category == "Zs":
        return ord(" ")
    if category in ("Cf", "Cc") or "\ufe00" <= character <= "\ufe0f":
        return UNSEEN
    plain = unicodedata.normalize("NFKC", character)
    if len(plain) == 1 and " " <= plain < "\x7f":
        return ord(plain)
    if category[0] in "LM":
        return LATIN if unicodedata.name(plain[:1], "").startswith("LATIN") else LETTER
    return SIGN


def _signs(match: re.Match[bytes]) -> bytes:
    return b"*" * len(match.group())


def _unescaped(match: re.Match[bytes]) -> bytes:
    """Give what an escape stands for, in as many bytes: what is left over is unseen, in front of it."""
    found = match.group()
    slashes = len(found) - len(found.lstrip(b"\\"))
    kept, rest = found[: slashes - 1], found[slashes:]
    if not rest or slashes > _MOST_BACKSLASHES or (slashes % 2 == 0 and rest[:1] != b"u"):
        return found
    if rest[:1] == b"u":
        # NB: of an even row, which stands in JSON inside of JSON, nothing is meant to be seen.
        kept = kept if slashes % 2 else bytes([UNSEEN]) * (slashes - 1)
        return kept + bytes([UNSEEN]) * 5 + bytes([_folded(chr(int(rest[1:], 16)))])
    meant = _MEANT.get(rest[0])
    return kept + (b" " + rest if meant is None else meant * 2)
