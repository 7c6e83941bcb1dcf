r"""The source of JSON as whoever parses it reads it: `b\u006fmb` is a bomb. Pure.

Each escape is one character there, so that what is found is found again in the source, and never cuts an escape. A half
of a surrogate pair is U+FFFD; what is no escape of JSON stays what it is.

    unescaped     of a whole text, with the way back
    Unescaping    of a text that comes in pieces, however it is cut
"""

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from capstan_contract.guards import Source
from capstan_gateway.guards.port import Detector, Finding, Scan, reads_source

_ESCAPE: Final = re.compile(
    r"\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[\"\\/bfnrt]"
)
_HIGH: Final = re.compile(r"\\u[dD][89abAB][0-9A-Fa-f]{2}")
_LOW_BEGUN: Final = re.compile(r"(?:\\(?:u(?:[dD](?:[c-fC-F][0-9A-Fa-f]?)?)?)?)?\Z")
_BEGUN: Final = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_MEANT: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _character(escape: str) -> str:
    """Give what an escape stands for."""
    if escape[1] != "u":
        return _MEANT[escape[1]]
    point = int(escape[2:6], 16)
    if len(escape) == len("\\ud83d\\ude00"):
        return chr(0x10000 + ((point - 0xD800) << 10) + int(escape[8:], 16) - 0xDC00)
    return "\ufffd" if 0xD800 <= point < 0xE000 else chr(point)


@dataclass(frozen=True, slots=True)
class Unescaped:
    """A text without its escapes. Places are in characters."""

    text: str
    places: Sequence[int]
    """Of this text, at which an escape stood."""
    starts: Sequence[int]
    """Where it stood in the source, and where it ended there."""
    ends: Sequence[int]

    def back(self, place: int) -> int:
        """Give the place in the source of one in this text."""
        number = bisect_left(self.places, place)
        return place if number == 0 else self.ends[number - 1] + place - self.places[number - 1] - 1

    def found(self, findings: Sequence[Finding]) -> list[Finding]:
        """Give findings in this text as those of the source."""
        return [replace(one, start=self.back(one.start), end=self.back(one.end)) for one in findings]

    def widened(self, findings: Sequence[Finding]) -> list[Finding]:
        """Give findings in the source so that none begins or ends within an escape."""
        return [replace(one, start=self._before(one.start), end=self._behind(one.end)) for one in findings]

    def _before(self, place: int) -> int:
        number = bisect_right(self.starts, place) - 1
        return self.starts[number] if number >= 0 and place < self.ends[number] else place

    def _behind(self, place: int) -> int:
        number = bisect_left(self.starts, place) - 1
        return self.ends[number] if number >= 0 and place < self.ends[number] else place


def unescaped(source: str) -> Unescaped:
    """Give what is read by whoever parses this source, in time that grows with its length."""
    parts: list[str] = []
    places: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    at, length = 0, 0
    for escape in _ESCAPE.finditer(source):
        parts += (source[at : escape.start()], _character(escape[0]))
        length += escape.start() - at
        places.append(length)
        starts.append(escape.start())
        ends.append(escape.end())
        at, length = escape.end(), length + 1
    parts.append(source[at:])
    return Unescaped("".join(parts), places, starts, ends)


def scan_source(detector: Detector, source: str, whose: Source, *, as_written: bool) -> Scan:
    """Give what is in the source of JSON, by places of it: what a detector finds in what is read there.

    With `as_written` also what it finds in the source itself: a model that is shown it reads that.
    """
    if "\\" not in source or reads_source(detector):
        return detector.scan(source, whose)
    view = unescaped(source)
    seen = detector.scan(view.text, whose)
    found = view.found(seen.findings)
    if not as_written:
        return replace(seen, findings=tuple(found))
    raw = detector.scan(source, whose)
    every = sorted({*found, *view.widened(raw.findings)}, key=lambda one: (one.start, one.end))
    doubts = [one.doubt for one in (seen, raw) if one.doubt is not None]
    return Scan(tuple(every), max(doubts, default=None), seen.message or raw.message)


class Unescaping:
    """What is read in a source that comes in pieces, and the source of what goes on of it."""

    __slots__ = ("_came", "_escapes", "_more", "_tail", "_taken")

    def __init__(self) -> None:
        self._tail = ""
        """What may be the beginning of an escape: fewer characters than two escapes have."""
        self._escapes: deque[tuple[int, str]] = deque()
        """Those of which the source was not taken, each with its place."""
        self._more = 0
        """How many characters their source has more than they are."""
        self._came = 0
        self._taken = 0

    @property
    def held(self) -> int:
        """How many characters are kept beside those that were given."""
        return len(self._tail) + self._more

    def feed(self, source: str) -> str:
        """Take what follows; give what is read there, as far as that is known."""
        source = self._tail + source
        end = self._known(source) if "\\" in source else len(source)
        self._tail = source[end:]
        return self._read(source[:end])

    def end(self) -> str:
        """Nothing follows: give what is left."""
        source, self._tail = self._tail, ""
        return self._read(source)

    def take(self, text: str) -> str:
        """Give the source of this text, which is what follows that of which it was given last."""
        parts: list[str] = []
        at, begin = 0, self._taken
        self._taken += len(text)
        while self._escapes and self._escapes[0][0] < self._taken:
            place, escape = self._escapes.popleft()
            self._more -= len(escape) - 1
            parts += (text[at : place - begin], escape)
            at = place - begin + 1
        return "".join((*parts, text[at:]))

    def _known(self, source: str) -> int:
        """Give up to where it is known what is an escape."""
        at = 0
        for escape in _ESCAPE.finditer(source):
            at = escape.end()
            if _HIGH.fullmatch(escape[0]) and _LOW_BEGUN.match(source, at):
                return escape.start()
        begun = _BEGUN.search(source, max(at, len(source) - 5))
        return len(source) if begun is None else begun.start()

    def _read(self, source: str) -> str:
        if "\\" not in source:
            self._came += len(source)
            return source
        view = unescaped(source)
        for place, start, end in zip(view.places, view.starts, view.ends, strict=True):
            self._escapes.append((self._came + place, source[start:end]))
            self._more += end - start - 1
        self._came += len(view.text)
        return view.text
