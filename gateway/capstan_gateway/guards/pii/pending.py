"""Where, at the end of a text that is still coming, a value may begin that is not there as a whole. Pure.

Each value has something loud in it: a digit, an `@`, a bracket in front of `at`, a row of letters longer than a word.
In front of that stand the rest of its word, and the word before, or two short ones: `jane.doe (at)`, `FR AA 12`. So
prose is decided up to its last words. Only behind a word that tells of one (`BIC`) may a value be quiet.
"""

import re
from collections.abc import Iterator
from typing import Final

from capstan_gateway.guards.pii.scan import Scanned
from capstan_gateway.guards.pii.view import LATIN, LETTER, SIGN
from capstan_gateway.guards.pii.words import Word

_LETTER: Final = b"A-Za-z" + bytes([LATIN, LETTER])
_QUIET: Final = _LETTER + bytes([SIGN]) + rb" \n\t.,;!?'\"`*#()\[\]{}:-"
_LOUD: Final = re.compile(
    # what is in no prose, or seldom: digits, @, what nobody sees
    b"[^" + _QUIET + b"]"
    # the beginning of `[at]`
    rb"|[\[({] ?(?:[aA][tT]|[aA]?\Z)"
    # of addresses, of the head of a key
    rb"|:(?=[^ \n\t*]|\Z)|--"
    # keys of letters alone, and addresses of machines: those have signs, and are longer than 13
    rb"|[" + _LETTER + rb"]{20}"
    rb"|(?=[" + _LETTER + rb".:-]{14})[" + _LETTER + rb"]+[.:-]+[" + _LETTER + b"]"
)
_BLANKS: Final = (b" ", b"\n", b"\t")
_SHORT: Final = 4
"""Characters of a word that may stand in front of the digits of a value: `GB`, `ATU`."""
_QUOTED: Final = 66
"""How far back a quotation mark may be that begins an address: `"jane doe"@example.com`."""
_TELLING: Final = (
    Word.PASSWORD, Word.TOKEN, Word.PASSPORT, Word.LICENSE, Word.NATIONAL_ID, Word.TAX_ID, Word.MEDICAL, Word.BANK,
    Word.BIC, Word.SSN, Word.BIRTH,
)  # fmt: skip
_TOLD: Final = 64
"""How far behind such a word a value may begin."""


def begin(scanned: Scanned, least: int) -> int:
    """Give a place, `least` or behind it, such that no value that begins behind `least` begins in front of it, whatever
    follows the text."""
    folded = scanned.view.folded
    loud = _LOUD.search(folded, least)
    place = len(folded) if loud is None else loud.start()
    quote = folded.find(b'"', max(least, len(folded) - _QUOTED), place)
    place = _in_front(folded, place if quote < 0 else quote, least)
    return max(least, min([place, *_told(scanned, least)]))


def _in_front(folded: bytes, place: int, least: int) -> int:
    """Give where what may belong to something loud, or to something that follows, begins."""
    place = _word(folded, place, least)
    place = _word(folded, place - 1, least)
    short = _word(folded, place - 1, least)
    return short if place - 1 - short <= _SHORT else place


def _word(folded: bytes, end: int, least: int) -> int:
    """Give where the word begins of which this is the end, or some place in it."""
    return max(least, *(folded.rfind(blank, least, max(least, end)) + 1 for blank in _BLANKS))


def _told(scanned: Scanned, least: int) -> Iterator[int]:
    """Give where quiet values may begin."""
    for group in _TELLING:
        for _, end in scanned.hits.spans.get(group, ()):
            if end + _TOLD > least:
                yield end
