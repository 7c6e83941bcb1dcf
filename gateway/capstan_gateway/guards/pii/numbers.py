"""Numbers that are written in groups, and all that may be one of them.

A run is digits with little between them, as far as it goes; a number is some neighbouring groups of a run. Any of them
may be one, wherever the run begins, so that a list of numbers is read the same from its middle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import re

from capstan_gateway.guards.pii.scan import Scanned, linear

_RUN: Final = linear(rb"\d(?:[ .()/\xad-]{0,3}\d){5,}")
_GROUP: Final = re.compile(rb"\d+")
_MASK: Final = bytes.maketrans(b"0123456789\xad", b"9999999999 ")
_MOST_GROUPS: Final = 8
LEAST_DIGITS: Final = 6
MOST_DIGITS: Final = 19
_TIGHT: Final = frozenset(b".-/")


@dataclass(frozen=True, slots=True)
class Number:
    """Some neighbouring groups of digits."""

    start: int
    end: int
    digits: str
    mask: bytes
    """How it is written: nines, and what is between them."""
    first: bool
    """Whether its run begins with it."""
    last: bool
    loose: bool
    """Whether no sign ties it to a digit before or behind it; a blank doesn't."""


def numbers(scanned: Scanned) -> Iterator[Number]:
    """Give all that may be one, from 6 digits to 19."""
    folded = scanned.view.folded
    for run in _RUN.finditer(folded):
        start, end = run.span()
        groups = [match.span() for match in _GROUP.finditer(folded, start, end)]
        if len(groups) == 1:
            if end - start <= MOST_DIGITS:
                yield _number(folded, groups, 0, 0)
            continue
        for first in range(len(groups)):
            yield from _from(folded, groups, first)


def _from(folded: bytes, groups: list[tuple[int, int]], first: int) -> Iterator[Number]:
    digits = 0
    for last in range(first, min(first + _MOST_GROUPS, len(groups))):
        digits += groups[last][1] - groups[last][0]
        if digits > MOST_DIGITS:
            return
        if digits >= LEAST_DIGITS:
            yield _number(folded, groups, first, last)


def _number(folded: bytes, groups: list[tuple[int, int]], first: int, last: int) -> Number:
    start, end = groups[first][0], groups[last][1]
    written = folded[start:end]
    return Number(
        start=start, end=end, digits=b"".join(_GROUP.findall(written)).decode(), mask=written.translate(_MASK),
        first=first == 0, last=last == len(groups) - 1,
        loose=not _tied(folded, start - 1, -1) and not _tied(folded, end, 1),
    )  # fmt: skip


def _tied(folded: bytes, place: int, step: int) -> bool:
    """Tell whether a sign is here that joins digits, and a digit behind it."""
    beyond = place + step
    return 0 <= place < len(folded) and folded[place] in _TIGHT and 0 <= beyond < len(folded) and 48 <= folded[beyond] <= 57
