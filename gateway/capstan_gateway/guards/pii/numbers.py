"""Numbers that are written in groups, and all that may be one of them.

A run is digits with little between them, as far as it goes; a number is some neighbouring groups of a run. Any of them
may be one, wherever the run begins, so that a list of numbers is read the same from its middle.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.pii.scan import Scanned, linear

_RUN: Final = linear(rb"\d(?:(?:\xad{0,8}[ .()/-]|\xad){0,3}\d){5,}")
_GROUP: Final = re.compile(rb"\d+")
_UNSEEN: Final = re.compile(rb"\xad+(?=[ .()/-])")
_MASK: Final = bytes.maketrans(b"0123456789\xad", b"9999999999 ")
_MOST_GROUPS: Final = 8
LEAST_DIGITS: Final = 6
MOST_DIGITS: Final = 19
_TIGHT: Final = frozenset(b".-/")
_SIGNS: Final = b" .()/\xad-"


@dataclass(frozen=True, slots=True)
class Number:
    """Some neighbouring groups of digits, which no sign ties to a digit before or behind; a blank doesn't."""

    start: int
    end: int
    digits: str
    mask: bytes
    """How it is written: nines, and what is between them."""
    first: bool
    """Whether its run begins with it."""
    last: bool


def numbers(scanned: Scanned) -> Iterator[Number]:
    """Give all that may be one, from 6 digits to 19."""
    folded = scanned.view.folded
    for run in _RUN.finditer(folded):
        go_on()
        start, end = run.span()
        if folded[start:end].isdigit():
            if end - start <= MOST_DIGITS and not _tied(folded, start - 1, -1) and not _tied(folded, end, 1):
                yield _number(folded, start, end, first=True, last=True)
        else:
            yield from _in_run(folded, [match.span() for match in _GROUP.finditer(folded, start, end)])


def _in_run(folded: bytes, groups: list[tuple[int, int]]) -> Iterator[Number]:
    ends = [not _tied(folded, end, 1) for _, end in groups]
    for first, (start, _) in enumerate(groups):
        go_on()
        if _tied(folded, start - 1, -1):
            continue
        digits = 0
        for last in range(first, min(first + _MOST_GROUPS, len(groups))):
            digits += groups[last][1] - groups[last][0]
            if digits > MOST_DIGITS:
                break
            if digits >= LEAST_DIGITS and ends[last]:
                yield _number(folded, start, groups[last][1], first=first == 0, last=last == len(groups) - 1)


def _number(folded: bytes, start: int, end: int, *, first: bool, last: bool) -> Number:
    written = folded[start:end]
    if b"\xad" in written:
        # NB: an escape of a blank is what nobody sees, and a blank.
        written = _UNSEEN.sub(b"", written)
    mask = written.translate(_MASK)
    digits = written if mask.isdigit() else written.translate(None, _SIGNS)
    return Number(start, end, digits.decode(), mask, first, last)


def _tied(folded: bytes, place: int, step: int) -> bool:
    """Tell whether a sign is here that joins digits, and a digit behind it."""
    beyond = place + step
    return (
        0 <= beyond < len(folded)
        and 0 <= place < len(folded)
        and folded[place] in _TIGHT
        and 48 <= folded[beyond] <= 57
    )
