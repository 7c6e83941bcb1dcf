"""Texts that several pieces say together: what was found over the border of two is taken out of both. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from capstan_gateway.guards.placeholders import united
from capstan_gateway.guards.port import NOTHING, Finding, Scan
from capstan_gateway.pipeline.guards.pieces import Piece

Marks = dict[int, list[Finding]]
"""By the number of a piece, what is marked in it."""


def told_once(pieces: Sequence[Piece], told: Sequence[tuple[int, Scan]]) -> list[tuple[int, Scan]]:
    """Give what was found, without what a text has of its parts, and these have too."""
    scans = dict(told)
    return [(number, _without(scan, _shifted_all(pieces, pieces[number], scans))) for number, scan in told]


def _without(scan: Scan, known: set[tuple[str, int, int]]) -> Scan:
    if not known:
        return scan
    return replace(scan, findings=[one for one in scan.findings if (one.kind, one.start, one.end) not in known])


def _shifted_all(pieces: Sequence[Piece], whole: Piece, scans: Mapping[int, Scan]) -> set[tuple[str, int, int]]:
    starts = _starts(pieces, whole.parts)
    return {
        (one.kind, one.start + start, one.end + start)
        for number, start in zip(whole.parts, starts, strict=False)
        for one in scans.get(number, NOTHING).findings
    }


def spread(pieces: Sequence[Piece], marks: Marks, restored: Marks) -> dict[int, str]:
    """Have the parts of texts hold what is marked in these, and give the texts of the parts for that.

    A border that is within a mark moves behind it: the mark is in the part where it begins, whole, and the next part
    begins behind it. `marks` and `restored` are changed; nothing is left in them of texts that are joined.
    """
    texts: dict[int, str] = {}
    for number, whole in enumerate(pieces):
        if not whole.parts or number not in marks:
            continue
        starts = _starts(pieces, whole.parts)
        given = [_taken(kept, number, whole.parts, starts) for kept in (marks, restored)]
        borders = _moved(starts, united(given[0]))
        for part, (start, end) in zip(whole.parts, pairwise(borders), strict=True):
            texts[part] = whole.text[start:end]
            for kept, all_of_it in zip((marks, restored), given, strict=True):
                kept[part] = [_shifted(one, -start) for one in all_of_it if start <= one.start < end]
    return texts


def _starts(pieces: Sequence[Piece], parts: Sequence[int]) -> list[int]:
    """Give where each part begins, and where the last one ends."""
    return list(accumulate((len(pieces[part].text) for part in parts), initial=0))


def _taken(kept: Marks, number: int, parts: Sequence[int], starts: Sequence[int]) -> list[Finding]:
    of_parts = [_shifted(one, start) for part, start in zip(parts, starts, strict=False) for one in kept.pop(part, ())]
    return [*kept.pop(number, ()), *of_parts]


def _moved(starts: Sequence[int], found: Sequence[Finding]) -> list[int]:
    moved, ahead = [], iter(found)
    one = next(ahead, None)
    for start in starts:
        while one is not None and one.end <= start:
            one = next(ahead, None)
        moved.append(one.end if one is not None and one.start < start else start)
    return moved


def _shifted(one: Finding, by: int) -> Finding:
    return replace(one, start=one.start + by, end=one.end + by)
