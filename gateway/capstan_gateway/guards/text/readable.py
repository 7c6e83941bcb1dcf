"""A text as a person reads it, for a model that was trained on what persons write.

Less than `fold` does: letters keep their case, and words of other alphabets stay what they are. What has no width is
gone, fullwidth and mathematical letters are plain ones, and letters that only look Latin are Latin where they stand in
a word with some that are.
"""

import re
import unicodedata
from typing import Final

from capstan_gateway.guards.text.confusables import alike
from capstan_gateway.guards.text.views import Back, Joined, Piece, same_place

_FOREIGN: Final = re.compile(r"[!-~]*[^\x00-\x7f]\S*")
_LATIN: Final = re.compile("[A-Za-z]")
_SMALL: Final = alike()
_LARGE: Final = {
    ord(large): letter.upper() for point, letter in _SMALL.items() if len(large := chr(point).upper()) == 1
}
_ALIKE: Final = _LARGE | _SMALL


def readable(text: str) -> tuple[str, Back]:
    """Give what a person reads, and the way back to the text."""
    if text.isascii():
        return text, same_place
    pieces, at = [], 0
    for word in _FOREIGN.finditer(text):
        said = _read(word[0])
        if said == word[0]:
            continue
        if word.start() > at:
            pieces.append(Piece(at, word.start(), text[at : word.start()], exact=True))
        pieces.append(Piece(word.start(), word.end(), said))
        at = word.end()
    joined = Joined([*pieces, Piece(at, len(text), text[at:], exact=True)])
    return joined.text, joined.back


def _read(word: str) -> str:
    plain = "".join(map(_visible, unicodedata.normalize("NFKC", word)))
    return plain.translate(_ALIKE) if _LATIN.search(plain) else plain


def _visible(character: str) -> str:
    point = ord(character)
    if 0xE0020 <= point < 0xE007F:
        return chr(point - 0xE0000)
    return "" if unicodedata.category(character) in ("Cf", "Me") or 0xFE00 <= point < 0xFE10 else character
