"""A text that is still coming, and how much of it may go on. Pure.

    text ─► add ─► due: up to which mark it is to be looked at next ─► view ─► detectors ─► release

It is looked at where marks are, which are places of the text: how the text was cut on its way makes no difference.
What was released is kept as far as something behind it can depend on it.

    near marks    for detectors that say how much of a text is decided: 32 characters, then each 64, later each 256
    far marks     for whoever judges a text by and large: each 1024, with 256 of what was in front
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from capstan_gateway.guards.port import Finding

FIRST: Final = 32
"""The first mark: the first words of a text are not to wait long, and a look at so little costs little."""
STEP: Final = 64
"""Characters between marks at the beginning of a text."""
LONG_STEP: Final = 256
"""Characters between marks further on: a look costs the more the further back detectors must see."""
LONG_FROM: Final = 512
FAR_STEP: Final = 1024
OVERLAP: Final = 256
"""Characters that two windows of far marks share: what is not longer is in one of them as a whole."""


class Marks(Protocol):
    """Where a text is looked at."""

    def behind(self, place: int) -> int:
        """Give the first mark behind a place."""
        ...

    def last(self, end: int) -> int:
        """Give the last mark up to a place; 0 where there is none."""
        ...


class Near:
    """Marks that are close."""

    def behind(self, place: int) -> int:
        """Give the first mark behind a place."""
        if place < FIRST:
            return FIRST
        step = STEP if place < LONG_FROM else LONG_STEP
        return (place // step + 1) * step

    def last(self, end: int) -> int:
        """Give the last mark up to a place."""
        if FIRST <= end < STEP:
            return FIRST
        step = STEP if end < LONG_FROM else LONG_STEP
        return end // step * step


class Far:
    """Marks that are far from each other."""

    def behind(self, place: int) -> int:
        """Give the first mark behind a place."""
        return (place // FAR_STEP + 1) * FAR_STEP

    def last(self, end: int) -> int:
        """Give the last mark up to a place."""
        return end // FAR_STEP * FAR_STEP


@dataclass(frozen=True, slots=True)
class View:
    """A piece of the text."""

    text: str
    offset: int
    """Where it begins in the whole text."""

    @property
    def end(self) -> int:
        """Where it ends there."""
        return self.offset + len(self.text)


class Window:
    """What is known of one text. All places are those of the whole text, in characters."""

    __slots__ = ("_base", "_context", "_looked", "_marks", "_next", "_parts", "_text", "done", "end")

    def __init__(self, context: int, marks: Marks) -> None:
        self._context = context
        self._marks = marks
        self._text = ""
        self._parts: list[str] = []
        """Behind `_text`: joined to it when somebody looks."""
        self._base = 0
        """Where `_text` begins."""
        self._looked = 0
        """The last mark up to which it was looked at."""
        self._next = marks.behind(0)
        """The one behind it."""
        self.done = 0
        """Up to where it was released."""
        self.end = 0

    @property
    def held(self) -> int:
        """How many characters are kept, because some of them are not released; 0 when all are."""
        return self.end - self._base if self.end > self.done else 0

    def add(self, text: str) -> None:
        """Take what follows."""
        self._parts.append(text)
        self.end += len(text)

    def reaches(self, more: int) -> bool:
        """Whether so many characters more reach the next mark."""
        return self.end + more >= self._next

    def due(self, *, far: bool = True) -> int | None:
        """Give the mark up to which it is to be looked at now, or None: the next one, or with `far` the last one."""
        if self._next > self.end:
            return None
        return self._marks.last(self.end) if far else self._next

    def is_next(self, mark: int) -> bool:
        """Whether there is no mark between the last look and this one."""
        return mark <= self._next

    def mark_in_front(self, place: int) -> int | None:
        """Give the last mark up to a place, if it was not looked at."""
        mark = self._marks.last(place)
        return mark if mark > self._looked else None

    def looked(self, mark: int) -> None:
        """Note that it was looked at up to this mark."""
        if mark > self._looked:
            self._looked = mark
            self._next = self._marks.behind(mark)

    def view(self, end: int) -> View:
        """Give what detectors need to see, up to a place."""
        self._join()
        offset = max(self._base, self.done - self._context)
        return View(self._text[offset - self._base : end - self._base], offset)

    def release(self, upto: int) -> str:
        """Give what may go on, up to a place."""
        self._join()
        given = self._text[self.done - self._base : upto - self._base]
        self.done = max(self.done, upto)
        base = max(self._base, self.done - self._context)
        self._text, self._base = self._text[base - self._base :], base
        return given

    def _join(self) -> None:
        if self._parts:
            self._text += "".join(self._parts)
            self._parts.clear()


class LookBack:
    """From where on a detector is shown a text that is still coming. Places are those of the whole text."""

    __slots__ = ("_front", "_places")

    def __init__(self, front: int) -> None:
        self._front = front
        self._places: deque[int] = deque((0,))
        """Those that are for the detector as the beginning of the text, for what is `front` behind them."""

    def start(self, done: int) -> int:
        """Give from where on it must see the text to find what begins behind this place, which never moves back."""
        places = self._places
        while len(places) > 1 and places[1] <= done - self._front:
            places.popleft()
        return places[0]

    def decided(self, place: int) -> None:
        """Note up to where it said that the text was decided."""
        if place > self._places[-1]:
            self._places.append(place)


def standing(findings: Iterable[Finding], safe: int, done: int) -> int:
    """Give up to where a text may be released whose findings in front of `safe` are decided: never into one of them."""
    place = safe
    for finding in sorted(findings, key=lambda finding: finding.end, reverse=True):
        if finding.start < place < finding.end:
            place = finding.start
    return max(place, done)


def covered(findings: Iterable[Finding], safe: int) -> int:
    """Give up to where a text is released if what is found in it is replaced at once, with all that overlaps it, also
    where it may go on."""
    place = safe
    for finding in sorted(findings, key=lambda finding: finding.start):
        if finding.start < place:
            place = max(place, finding.end)
    return place


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a text as it goes on."""

    original: str
    written: str

    @property
    def kept(self) -> bool:
        """Whether it goes on as it was."""
        return self.original == self.written


def moved(findings: Sequence[Finding], by: int) -> list[Finding]:
    """Give findings in a view as places of the whole text."""
    if not by:
        return list(findings)
    return [replace(one, start=one.start + by, end=one.end + by) for one in findings]
