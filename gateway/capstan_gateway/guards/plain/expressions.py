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

from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.plain.syntax import (
    Node,
    Unreadable,
    anchors,
    beginnings,
    can_be_empty,
    longest,
    read_pattern,
)

MOST_LENGTH: Final = 4096
"""Characters of a match that are looked at, of expressions whose matches have no end: more is not held back of a
stream."""
MOST_PROGRAM: Final = 20_000
"""Instructions that an expression may compile to: some 1 MB."""
MOST_STEPS: Final = 1_000
"""What it may have to do for one character in the worst case, which is what it takes where automata of it grow without
an end: some 16 us. It is the size of its program if only bytes are told apart: classes of Unicode are large, and
only a part of them is in use at any time."""
MOST_MEMORY: Final = 8 << 20
"""Bytes of the automata of one expression."""
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
    steps: int
    """See MOST_STEPS."""
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
    """Make one. Raises Unreadable, with words for whoever has written the pattern.

    Args:
        pattern: In the syntax of RE2. `^` and `$` are the beginning and end of a line.
        whole: Whether it is to match texts as a whole: then it may match the empty one, and its ends are the text's.
    """
    compiled = _compiled(pattern if whole else f"(?m){pattern}")
    if compiled.programsize > MOST_PROGRAM:
        raise Unreadable(f"it compiles to {compiled.programsize} instructions; {MOST_PROGRAM} are allowed")
    tree = read_pattern(pattern)
    steps = _steps(pattern, compiled)
    if steps > MOST_STEPS:
        raise Unreadable(f"it has {steps} states; {MOST_STEPS} are allowed: repeat less often, or say less in one")
    if not whole:
        _check_places(tree)
        if can_be_empty(tree):
            raise Unreadable("it matches the empty text, and so everywhere")
    return Expression(pattern, steps, longest(tree), compiled, None if whole else _pending(tree))


def _compiled(pattern: str, *, latin: bool = False) -> "re2._Regexp[str]":
    options = re2.Options()
    options.never_capture = True
    options.log_errors = False
    options.max_mem = MOST_MEMORY
    try:
        if latin:
            options.encoding = re2.Options.Encoding.LATIN1
        return re2.compile(pattern.encode() if latin else pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else b""
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise Unreadable(f"RE2 does not take it: {text[:200]}") from error
    except UnicodeEncodeError as error:
        raise Unreadable("it is no valid text") from error


def _steps(pattern: str, compiled: "re2._Regexp[str]") -> int:
    try:
        return min(int(_compiled(pattern, latin=True).programsize), int(compiled.programsize))
    except Unreadable:  # ranges of characters that are none of bytes
        return int(compiled.programsize)


def _check_places(tree: Node) -> None:
    for place in anchors(tree):
        if place in ("\\A", "\\z"):
            raise Unreadable(f"`{place}` is known of whole texts only; `^` and `$` are the beginning and end of a line")


def _pending(tree: Node) -> "re2._Regexp[str] | None":
    made = beginnings(tree)
    if made is None:
        return None
    try:
        compiled = _compiled(f"(?:{made})\\z")
    except Unreadable:
        return None
    return compiled if compiled.programsize <= 4 * MOST_PROGRAM else None
