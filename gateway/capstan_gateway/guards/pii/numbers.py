"""Numbers that are written in groups, and all that may be one of them.

A run is digits with little between them, as far as it goes; a number is some neighbouring groups of a run. Any of them
may be one, wherever the run begins, so that a list of numbers is read the same from its middle.

Most are nothing by their form alone. What a form may be is reckoned once for all that is written so: the rows of a
table, the times of a log.
"""

import re
from collections.abc import Callable, Iterator
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.pii.scan import Scanned

NUMBERS_GATE: Final = rb"\d(?:(?:\xad{0,8}[ .()/-]|\xad){0,3}\d){5}"
_RUN: Final = re.compile(rb"\d(?:(?:\xad{0,8}[ .()/-]|\xad){0,3}+\d){5,}+")
_GROUP: Final = re.compile(rb"9+")
_LATER: Final = re.compile(rb"(?:[^9]{2,}|[ ()])9")
"""Where a group begins behind another that is not tied to it."""
_JOINED: Final = re.compile(rb"[./-]9")
_DIGITS: Final = re.compile(rb"\d+")
_UNSEEN: Final = re.compile(rb"\xad+(?=[ .()/-])")
_UNSEEN_SIGN: Final = b"\xad"
_ZERO: Final = 0x30
_MASK: Final = bytes.maketrans(b"0123456789\xad", b"9999999999 ")
_MOST_GROUPS: Final = 8
_WINDOW: Final = 42
"""Characters in which the longest number is, 19 digits and three signs at each border of groups, and two behind it."""
_MOST_KNOWN: Final = 4096
LEAST_DIGITS: Final = 6
MOST_DIGITS: Final = 19
_TIGHT: Final = frozenset(b".-/")
_SIGNS: Final = b" .()/\xad-"


class Number(NamedTuple):
    """Some neighbouring groups of digits, which no sign ties to a digit before or behind; a blank doesn't."""

    start: int
    end: int
    digits: str
    mask: bytes
    """How it is written: nines, and what is between them."""
    first: bool
    """Whether its run begins with it."""
    last: bool


class Use(IntEnum):
    """When a number that is written in a way may be something."""

    ALWAYS = 1
    ZERO = 2
    """If it begins with a zero, or what NEAR says."""
    NEAR = 3
    """If a plus is in front of it, or a word near it that says what it is."""


Judge = Callable[[bytes, int, bool, float], Use | None]
"""Tells it of all numbers that are written in a way: by `Number.mask`, how many digits there are, whether that is all
of the run, and how sure is enough."""


class _Shape(NamedTuple):
    """What may be a number, of those that begin in one place."""

    length: int
    mask: bytes
    last: bool
    use: Use


def numbers(scanned: Scanned, judge: Judge, *, said: Callable[[int, int], bool]) -> Iterator[Number]:
    """Give all that may be one, from 6 digits to 19. `said`: whether a word is near a run that a `Use.NEAR` needs."""
    folded = scanned.view.folded
    for run in _RUN.finditer(folded):
        go_on()
        start, end = run.span()
        if _UNSEEN_SIGN in run[0]:
            yield from _in_run(folded, [group.span() for group in _DIGITS.finditer(folded, start, end)])
            continue
        mask = run[0].translate(_MASK)
        near: bool | None = None
        for number, offset in enumerate(_beginnings(folded, start, mask)):
            if not number & 15:
                go_on()
            for shape in _shapes(mask[offset : offset + _WINDOW], offset == 0, judge, scanned.least):
                if shape.use is not Use.ALWAYS and (shape.use is Use.NEAR or folded[start + offset] != _ZERO):
                    near = near if near is not None else _plus(folded, start) or said(start, end)
                    if not near:
                        continue
                yield _shaped(folded, start + offset, shape, first=offset == 0)


def _beginnings(folded: bytes, start: int, mask: bytes) -> Iterator[int]:
    """Give where in a run a number may begin: groups that are not tied to what is in front of them."""
    if not _tied(folded, start - 1, -1):
        yield 0
    for group in _LATER.finditer(mask):
        yield group.end() - 1


def _plus(folded: bytes, start: int) -> bool:
    return b"+" in folded[max(0, start - 3) : start]


@lru_cache(_MOST_KNOWN)
def _shapes(window: bytes, first: bool, judge: Judge, least: float) -> tuple[_Shape, ...]:
    """Give what may be a number, of those that begin where a mask does. Such a mask has all that matters of its run."""
    found: list[_Shape] = []
    digits = 0
    for group in list(_GROUP.finditer(window))[:_MOST_GROUPS]:
        end = group.end()
        digits += end - group.start()
        if digits > MOST_DIGITS:
            break
        if digits < LEAST_DIGITS or _JOINED.match(window, end):
            continue
        mask, last = window[:end], end == len(window)
        use = judge(mask, digits, first and last, least)
        if use is not None:
            found.append(_Shape(end, mask, last, use))
    return tuple(found)


def _shaped(folded: bytes, start: int, shape: _Shape, *, first: bool) -> Number:
    written = folded[start : start + shape.length]
    digits = written if shape.mask.isdigit() else written.translate(None, _SIGNS)
    return Number(start, start + shape.length, digits.decode(), shape.mask, first, shape.last)


def _in_run(folded: bytes, groups: list[tuple[int, int]]) -> Iterator[Number]:
    """Give all numbers of a run by themselves, whatever they may be: of one with what nobody sees in it."""
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
    # NB: an escape of a blank is what nobody sees, and a blank.
    written = _UNSEEN.sub(b"", folded[start:end])
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
