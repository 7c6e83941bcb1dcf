"""One expression of RE2, compiled within bounds, and where it matches: in time that grows no faster than the text.

A search of RE2 takes time that grows with the text; to find all matches it is begun anew behind each, and what each
may have to look at has no end (`x.*y|x` before many `x`). So that all of them together are bounded,

- the first `FREE` matches of a text are found as far as they go;
- those behind them, of expressions whose matches can be longer than `MOST_LENGTH`, are looked for within that length;
- from the `MOST_MATCHES`th on (`ENDLESS_MATCHES`), the rest of the text is one match.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import re2  # type: ignore[import-untyped]

from capstan_contract.expressions import MOST_PROGRAM, check_expression, compile_bounded
from capstan_contract.re2_syntax import Node, Unreadable, beginnings, longest
from capstan_gateway.guards.patience import go_on

MOST_LENGTH: Final = 4096
"""Characters of a match that are looked at, of expressions whose matches have no end: more is not held back of a
stream."""
FREE: Final = 32
MOST_MATCHES: Final = 10_000
ENDLESS_MATCHES: Final = 1_000
"""The same of expressions whose matches have no longest one."""
LEAST_REACH: Final = 256
"""Where matches are short, so many of them may stand side by side until it matters where the first one began."""
_ALL: Final = MOST_LENGTH * 4
"""Bytes of so many characters, at the most."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Expression:
    """Something that can be looked for. Offsets are those of bytes, in UTF-8."""

    pattern: str
    states: int
    """See `capstan_contract.expressions.MOST_STATES`."""
    width: int | None
    """Characters of the longest match; None when there is no end to it."""
    compiled: "re2._Regexp[str]"
    pending: "re2._Regexp[str] | None"
    """Matches what may still become a match, up to the end of a text; None where that is not known."""

    @property
    def reach(self) -> int:
        """Characters in front of a place that matter there."""
        return max(LEAST_REACH, (MOST_LENGTH if self.width is None else self.width) + 2)

    def spans(self, data: bytes, start: int = 0) -> Iterator[Span]:
        """Give where it matches, from left to right; no two overlap."""
        count, at = 0, start
        most = ENDLESS_MATCHES if self.width is None else MOST_MATCHES
        while at < len(data) and (span := self._next(data, at, free=count < FREE)) is not None:
            go_on()
            count += 1
            if count >= most:
                yield span[0], len(data)
                return
            yield span
            at = span[1]

    def _next(self, data: bytes, at: int, *, free: bool) -> Span | None:
        if free or self.width is not None:
            return search(self.compiled, data, at)
        while at < len(data):
            go_on()
            # NB: twice the length, so that whatever begins in the first half is seen as far as it may go.
            span = search(self.compiled, data, at, min(len(data), at + 2 * _ALL))
            if span is not None and (span[0] < at + _ALL or at + 2 * _ALL >= len(data)):
                return span
            at += _ALL
        return None

    def first_pending(self, data: bytes) -> int | None:
        """Give where the first thing begins that may become a match, or a longer one, with what is to come."""
        if self.pending is None:
            return 0 if data else None
        span = search(self.pending, data, 0)
        return None if span is None or span[0] == len(data) else span[0]


def search(expression: "re2._Regexp[str]", data: bytes, start: int, end: int | None = None) -> Span | None:
    """Give the first match from a place on."""
    found = expression.search(data, start, end)
    return None if found is None else found.span()


def compile_expression(pattern: str, *, whole: bool = False) -> Expression:
    """Make one. Raises Unreadable, as `check_expression`, which says what the arguments are."""
    checked = check_expression(pattern, whole=whole)
    pending = None if whole else _pending(checked.tree)
    return Expression(pattern, checked.states, longest(checked.tree), checked.compiled, pending)


def _pending(tree: Node) -> "re2._Regexp[str] | None":
    made = beginnings(tree)
    if made is None:
        return None
    try:
        compiled = compile_bounded(f"(?:{made})\\z")
    except Unreadable:
        return None
    return compiled if compiled.programsize <= 4 * MOST_PROGRAM else None
