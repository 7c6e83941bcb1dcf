"""Texts that several pieces say together: what was found over the border of two is taken out of both. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from operator import itemgetter

from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.placeholders import united
from capstan_gateway.guards.port import NOTHING, Finding, Scan
from capstan_gateway.pipeline.guards.apart import apart
from capstan_gateway.pipeline.guards.pieces import Piece

Marks = dict[int, list[Finding]]
"""By the number of a piece, what is marked in it."""


def told_once(pieces: Sequence[Piece], told: Sequence[tuple[int, Scan]]) -> list[tuple[int, Scan]]:
    """Give what was found, without what a text has of its parts, and these have too."""
    if not any(pieces[number].parts or pieces[number].apart for number, _ in told):
        return list(told)
    scans = dict(told)
    by_itself = [
        (number, _without(scan, _shifted_all(pieces[number], scans)))
        for number, scan in told
        if pieces[number].apart is None
    ]
    made = list(_made_by_borders(pieces, told, scans))
    return _merged(by_itself, made) if made else by_itself


def _made_by_borders(
    pieces: Sequence[Piece], told: Sequence[tuple[int, Scan]], scans: Mapping[int, Scan]
) -> Iterator[tuple[int, Finding]]:
    """Give what is found only where parts have line ends between them, each with the number of its piece."""
    known: dict[int, _Known] = {}
    for number, scan in told:
        ways = pieces[number].apart
        if ways is None:
            continue
        if ways.whole not in known:
            known[ways.whole] = _Known(ways.whole, pieces[ways.whole], scans)
        for one in scan.findings:
            go_on()
            if not known[ways.whole].has(*ways.span(one)):
                yield from ((number, found) if isinstance(found, Finding) else found for found in ways.places(one))


class _Known:
    """What was found already in some parts, and in what they say together."""

    def __init__(self, number: int, whole: Piece, scans: Mapping[int, Scan]) -> None:
        self._begins = dict(zip(whole.parts, whole.starts, strict=True))
        ordered = sorted(
            (start + one.start, start + one.end)
            for part, start in ((number, 0), *self._begins.items())
            for one in scans.get(part, NOTHING).findings
        )
        self._starts = [start for start, _ in ordered]
        self._ends = list(accumulate((end for _, end in ordered), max))

    def has(self, first: tuple[int, int], last: tuple[int, int]) -> bool:
        """Whether any of that is between these two, each a part and a place in it."""
        start, end = (self._begins[part] + place for part, place in (first, last))
        count = bisect_left(self._starts, end)
        return count > 0 and self._ends[count - 1] > start


def _merged(told: Sequence[tuple[int, Scan]], made: Sequence[tuple[int, Finding]]) -> list[tuple[int, Scan]]:
    scans = dict(told)
    added: dict[int, list[Finding]] = {}
    for number, finding in made:
        added.setdefault(number, []).append(finding)
    for number, findings in added.items():
        scan = scans.get(number, NOTHING)
        every = sorted((*scan.findings, *findings), key=lambda one: (one.start, one.end))
        scans[number] = replace(scan, findings=every)
    return sorted(scans.items(), key=itemgetter(0))


def _without(scan: Scan, known: set[tuple[str, int, int]]) -> Scan:
    if not known:
        return scan
    return replace(scan, findings=[one for one in scan.findings if (one.kind, one.start, one.end) not in known])


def _shifted_all(whole: Piece, scans: Mapping[int, Scan]) -> set[tuple[str, int, int]]:
    return {
        (one.kind, one.start + start, one.end + start)
        for number, start in zip(whole.parts, whole.starts, strict=True)
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
        ranges = [
            (start, start + len(pieces[part].text)) for part, start in zip(whole.parts, whole.starts, strict=True)
        ]
        given = [_taken(kept, number, whole, ranges) for kept in (marks, restored)]
        for part, (start, end) in zip(whole.parts, _moved(ranges, united(given[0])), strict=True):
            texts[part] = whole.text[start:end]
            for kept, all_of_it in zip((marks, restored), given, strict=True):
                kept[part] = [_shifted(one, -start) for one in all_of_it if start <= one.start < end]
    return texts


def rejoined(whole: Piece, pieces: Sequence[Piece], texts: Sequence[str]) -> Piece:
    """Give what parts say together that have these texts now."""
    said: list[str] = []
    starts: list[int] = []
    at = length = 0
    for part, start in zip(whole.parts, whole.starts, strict=True):
        between = whole.text[at:start]
        said += between, texts[part]
        starts.append(length + len(between))
        length = starts[-1] + len(texts[part])
        at = start + len(pieces[part].text)
    return replace(whole, text="".join(said), starts=tuple(starts))


def reread(one: Piece, texts: Sequence[str]) -> Piece:
    """Give what parts say with line ends between them that have these texts now."""
    if one.apart is None:
        return one
    made = apart(one.apart.whole, [(number, texts[number]) for number in one.apart.numbers])
    return replace(one, text="" if made is None else made[1], apart=one.apart.ended if made is None else made[0])


Range = tuple[int, int]


def _taken(kept: Marks, number: int, whole: Piece, ranges: Sequence[Range]) -> list[Finding]:
    of_parts = [
        _shifted(one, start)
        for part, start in zip(whole.parts, whole.starts, strict=True)
        for one in kept.pop(part, ())
    ]
    return [*_within(kept.pop(number, ()), ranges), *of_parts]


def _within(found: Iterable[Finding], ranges: Sequence[Range]) -> Iterator[Finding]:
    """Have no finding begin between two parts: there is nothing to replace."""
    starts = [start for start, _ in ranges]
    for one in found:
        part = bisect_right(starts, one.start) - 1
        if one.start < ranges[part][1]:
            yield one
        elif part + 1 < len(ranges) and one.end > starts[part + 1]:
            yield replace(one, start=starts[part + 1])


def _moved(ranges: Sequence[Range], found: Sequence[Finding]) -> Iterator[Range]:
    """Give what of the whole each part is now: a mark over a border is in the part where it begins, as a whole."""
    ahead = iter(found)
    one = next(ahead, None)
    for start, end in ranges:
        while one is not None and one.end <= start:
            one = next(ahead, None)
        begin = one.end if one is not None and one.start < start else start
        if begin >= end:
            yield begin, begin
            continue
        while one is not None and one.end <= end:
            one = next(ahead, None)
        yield begin, one.end if one is not None and begin <= one.start < end else end


def _shifted(one: Finding, by: int) -> Finding:
    return replace(one, start=one.start + by, end=one.end + by)
