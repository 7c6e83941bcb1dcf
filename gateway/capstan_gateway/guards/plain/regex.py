"""Guards of type Regex: the expressions of a policy, all of them in one pass, and then where those match that do.

An answer that comes in pieces is given out up to where the first match may begin: whether what stands at its end may
become one is asked of an expression that matches all beginnings of matches. So what is held back is as long as what
could still be a match, and no longer than the longest one, or MOST_LENGTH where there is no longest one. A match
that is longer than that is found in whole texts only; of a stream its beginning is given out.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import re2  # type: ignore[import-untyped]

from capstan_contract.expressions import MOST_MEMORY, MOST_TOGETHER
from capstan_contract.guards import RegexGuard, Source
from capstan_contract.re2_syntax import Unreadable
from capstan_gateway.guards.plain.expressions import Expression, Span, compile_expression, search
from capstan_gateway.guards.port import NOTHING, Cost, Finding, Scan

MOST_PATTERNS: Final = 256
CHEAP_STATES: Final = 256
"""What is looked for on the loop: usually 20 us for 8 KB, and 30 ms in the worst case that a text can be made for."""
EXACT: Final = 64
"""Up to this length of matches all places are tried at which one could begin over the end of what is decided."""


@dataclass(frozen=True, slots=True)
class RegexDetector:
    """Finds what matches one of several expressions."""

    names: Sequence[str]
    expressions: Sequence[Expression]
    together: "re2.Set"

    @property
    def cost(self) -> Cost:
        """By what the expressions can come to."""
        states = sum(expression.states for expression in self.expressions)
        return Cost.CHEAP if states <= CHEAP_STATES else Cost.DEAR

    @property
    def follow_each_other(self) -> bool:
        """Matches of an expression do not overlap: each is looked for behind the one before."""
        return True

    @property
    def reach(self) -> int:
        """The longest match, or MOST_LENGTH where there is none, and a character on both sides."""
        return max(expression.reach for expression in self.expressions)

    def scan(self, text: str, source: Source) -> Scan:  # noqa: ARG002 - the same for all
        """Give what matches, and where."""
        data = text.encode("utf-8", "replace")
        there = self.together.Match(data)
        if not there:
            return NOTHING
        found = [(*span, number) for number in there for span in self.expressions[number].spans(data)]
        found.sort()
        places = characters(data, (place for start, end, _ in found for place in (start, end)))
        return Scan(tuple(Finding(self.names[number], places[start], places[end]) for start, end, number in found))

    def safe_end(self, text: str) -> int:
        """Give up to where a text of which more is to come is decided."""
        least = max(0, len(text) - self.reach)
        end = len(text)
        for expression in self.expressions:
            offset = max(0, len(text) - expression.reach)
            data = text[offset:].encode("utf-8", "replace")
            pending = expression.first_pending(data)
            if pending is not None:
                end = min(end, offset + characters(data, (pending,))[pending])
        end = self._outside(text, end)
        return end if end >= least else self._behind(text, least)

    def _behind(self, text: str, place: int) -> int:
        """Give the first place from this one on that is inside of no match, in a text that is full of them."""
        for finding in self.scan(text, Source.TEXT).findings:
            if finding.start < place < finding.end:
                place = finding.end
        return place

    def _outside(self, text: str, place: int) -> int:
        """Give the last place up to this one that is inside of no match, wherever that could begin."""
        moved = True
        while moved and place > 0:
            moved = False
            for expression in self.expressions:
                start = _crossing(expression, text, place)
                if start is not None:
                    place, moved = start, True
        return place


def _crossing(expression: Expression, text: str, place: int) -> int | None:
    """Give where a match begins that goes over a place; None when none does."""
    offset = max(0, place - expression.reach)
    data = text[offset : place + expression.reach].encode("utf-8", "replace")
    border = len(text[offset:place].encode("utf-8", "replace"))
    exact = expression.width is not None and expression.width <= EXACT
    for start, end in _candidates(expression, data, border, exact=exact):
        if end > border:
            return offset + characters(data, (start,))[start]
    return None


def _candidates(expression: Expression, data: bytes, border: int, *, exact: bool) -> Iterator[Span]:
    at = 0
    while at < border and (span := search(expression.compiled, data, at)) is not None and span[0] < border:
        yield span
        at = span[0] + 1 if exact else span[1]
        while at < len(data) and data[at] & 0xC0 == 0x80:
            at += 1


def characters(data: bytes, places: Iterable[int]) -> dict[int, int]:
    """Give at which character of a text each of these places of its UTF-8 form is."""
    wanted = sorted(set(places))
    if data.isascii():
        return {place: place for place in wanted}
    found, at, count = {}, 0, 0
    for place in wanted:
        count += len(data[at:place].decode())
        found[place] = count
        at = place
    return found


def build_regex_detector(guard: RegexGuard) -> RegexDetector:
    """Make what a guard asks for. Raises ValueError, naming the pattern and what is wrong with it."""
    if not 1 <= len(guard.patterns) <= MOST_PATTERNS:
        raise ValueError(f"`patterns` has {len(guard.patterns)}; 1 to {MOST_PATTERNS} are allowed")
    expressions = []
    for pattern in guard.patterns:
        try:
            expressions.append(compile_expression(pattern.pattern))
        except Unreadable as error:
            raise ValueError(f"the pattern `{pattern.name}` cannot be used: {error}") from error
    states = sum(expression.states for expression in expressions)
    if states > MOST_TOGETHER:
        raise ValueError(f"`patterns` have {states} states together; {MOST_TOGETHER} are allowed")
    names = [pattern.name for pattern in guard.patterns]
    return RegexDetector(names, expressions, _together([pattern.pattern for pattern in guard.patterns]))


def _together(patterns: Sequence[str]) -> "re2.Set":
    options = re2.Options()
    options.never_capture = True
    options.log_errors = False
    # NB: a set whose automaton has no room for two states would say that nothing matches; this one has that room.
    options.max_mem = 8 * MOST_MEMORY
    found = re2.Set.SearchSet(options)
    for pattern in patterns:
        found.Add(f"(?m){pattern}")
    try:
        found.Compile()
    except re2.error as error:
        raise ValueError("`patterns` are too large together") from error
    return found
