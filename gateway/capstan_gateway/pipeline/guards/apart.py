"""How the parts of a message read where an engine puts a line end between them. Pure.

Some engines put the parts of a message behind one another as they are, others with a line end or a blank between them
(vLLM, by the template; SGLang): words that two parts make together are words in one of these only. What is said either
way is looked at. This is the second one: of what is found there only that counts which such a border makes, and which
is not found in the texts themselves or in what they say without it.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

from capstan_gateway.guards.port import Finding

LINE: Final = "\n"
EDGE: Final = 1024
"""Characters on both sides of a border that are looked at."""
NEAR: Final = 128
"""How far from a border something may be found that only what is beyond it says what it is."""


class Segment(NamedTuple):
    """What of a part stands in such a text."""

    number: int
    """Of the part."""
    offset: int
    """Where in the part it begins."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Apart:
    """The parts of one message with line ends between them, long ones without their middle."""

    whole: int
    """The number of what they say together without these."""
    segments: tuple[Segment, ...]
    lines: frozenset[int]
    """Before which of the segments a line end was put."""

    @property
    def numbers(self) -> list[int]:
        """Give the numbers of the parts."""
        return list(dict.fromkeys(one.number for one in self.segments))

    @property
    def ended(self) -> "Apart":
        """Give the same where line ends make no difference any more."""
        return replace(self, lines=frozenset())

    def places(self, finding: Finding) -> Iterator[Finding | tuple[int, Finding]]:
        """Give what of a finding counts: it itself where it goes over such a border, or with the number of the part
        that it is in, by places of that; nothing where no border has to do with it."""
        first = self._at(finding.start)
        last = max(first, bisect_right(self.segments, finding.end - 1, key=lambda one: one.start) - 1)
        between = range(first + 1, last + 1)
        if any(self.segments[one].number == self.segments[one - 1].number for one in between):
            return  # The middle of a part is missing there.
        if first < last:
            if not self.lines.isdisjoint(between):
                yield finding
            return
        segment = self.segments[first]
        start, end = max(finding.start, segment.start), min(finding.end, segment.end)
        begins = first in self.lines and start - segment.start < NEAR
        ends = first + 1 in self.lines and segment.end - end < NEAR
        if start < end and (begins or ends):
            by = segment.offset - segment.start
            yield segment.number, replace(finding, start=start + by, end=end + by)

    def span(self, finding: Finding) -> tuple[tuple[int, int], tuple[int, int]]:
        """Give where a finding begins and ends: in which part, and where there."""
        first, last = self._at(finding.start), self._at(finding.end - 1)
        one, other = self.segments[first], self.segments[last]
        return (
            (one.number, one.offset + max(0, finding.start - one.start)),
            (other.number, other.offset + max(0, min(finding.end, other.end) - other.start)),
        )

    def _at(self, place: int) -> int:
        """Give the segment that a place is in, or the one behind the line end there."""
        found = bisect_right(self.segments, place, key=lambda one: one.start) - 1
        return min(found + (place >= self.segments[found].end), len(self.segments) - 1)


def apart(whole: int, parts: Sequence[tuple[int, str]]) -> tuple[Apart, str] | None:
    """Give how the parts of a message, each with its number, read with line ends between them; None where that makes
    no difference, because there are blanks."""
    lines = [not (one[-1:].isspace() or other[:1].isspace()) for (_, one), (_, other) in pairwise(parts)]
    if not any(lines):
        return None
    segments: list[Segment] = []
    before: set[int] = set()
    said: list[str] = []
    at = 0
    for place, (number, text) in enumerate(parts):
        if place and lines[place - 1]:
            before.add(len(segments))
            said.append(LINE)
            at += len(LINE)
        cut = len(text) > 2 * EDGE
        for offset, shown in ((0, text[:EDGE]), (len(text) - EDGE, text[-EDGE:])) if cut else ((0, text),):
            if offset:
                said.append(2 * LINE)
                at += 2 * len(LINE)
            segments.append(Segment(number, offset, at, at + len(shown)))
            said.append(shown)
            at += len(shown)
    return Apart(whole, tuple(segments), frozenset(before)), "".join(said)
