"""Expressions of suites: those of RE2, linear in the answer whatever they are. Pure."""

from collections import deque
from functools import lru_cache
from typing import Final

from capstan_contract.expressions import MOST_PROGRAM, Expression, compile_bounded
from capstan_contract.re2_syntax import Unreadable

MOST_KEPT: Final = 256


def check_pattern(field: str, pattern: str | None) -> None:
    """Raise ValueError, with words for whoever has written it, where an expression cannot be used."""
    if pattern is None:
        return
    try:
        compiled(pattern)
    except Unreadable as error:
        raise ValueError(f"`{field}` is no expression that can be used: {error}") from None


@lru_cache(MOST_KEPT)
def compiled(pattern: str) -> Expression:
    """Compile an expression. Raises Unreadable."""
    found = compile_bounded(pattern, captures=True)
    if found.programsize > MOST_PROGRAM:
        raise Unreadable(f"it compiles to {found.programsize} instructions; {MOST_PROGRAM} are allowed")
    return found


def matches(pattern: str, text: str) -> bool:
    """Whether an expression matches somewhere in a text."""
    return compiled(pattern).search(well_formed(text)) is not None


def extract(pattern: str, text: str) -> str | None:
    """Give what an expression finds last in a text: its first group if it has one. None: nothing."""
    last = deque(compiled(pattern).finditer(well_formed(text)), maxlen=1)
    if not last:
        return None
    found: str | None = last[0].group(1 if compiled(pattern).groups else 0)
    return found


def well_formed(text: str) -> str:
    """Give a text with nothing in it that UTF-8 has not: halves of characters become `?`."""
    return text.encode("utf-8", "replace").decode()
