"""Which expressions of guards can be used: those of RE2, within bounds.

The operator looks at them before anybody else does, so that a policy with a faulty one says so and the last good one
goes on; the gateway compiles the same and refuses what it could not bound. Both ask here.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import re2  # type: ignore[import-untyped]

from capstan_contract.re2_syntax import Node, Unreadable, anchors, can_be_empty, read_pattern

MOST_PROGRAM: Final = 20_000
"""Instructions that an expression may compile to: some 1 MB."""
MOST_STATES: Final = 1_000
"""What it may have to do for one character in the worst case, which is what it takes where automata of it grow without
an end: some 16 us. It is the size of its program if only bytes are told apart: classes of Unicode are large, and
only a part of them is in use at any time."""
MOST_TOGETHER: Final = 4_000
"""The same of all expressions of a guard."""
MOST_MEMORY: Final = 8 << 20
"""Bytes of the automata of one expression."""

Expression: TypeAlias = "re2._Regexp[str]"


@dataclass(frozen=True, slots=True)
class Checked:
    """An expression that can be used."""

    compiled: "re2._Regexp[str]"
    tree: Node
    states: int
    """See MOST_STATES."""


def check_expression(pattern: str, *, whole: bool = False) -> Checked:
    """Compile an expression. Raises Unreadable, with words for whoever has written it and no part of it but signs.

    Args:
        pattern: In the syntax of RE2. `^` and `$` are the beginning and end of a line.
        whole: Whether it is to match texts as a whole: then it may match the empty one, and its ends are the text's.
    """
    compiled = compile_bounded(pattern if whole else f"(?m){pattern}")
    if compiled.programsize > MOST_PROGRAM:
        raise Unreadable(f"it compiles to {compiled.programsize} instructions; {MOST_PROGRAM} are allowed")
    tree = read_pattern(pattern)
    states = _states(pattern, compiled)
    if states > MOST_STATES:
        raise Unreadable(f"it has {states} states; {MOST_STATES} are allowed: repeat less often, or say less in one")
    if not whole:
        _check_places(tree)
        if can_be_empty(tree):
            raise Unreadable("it matches the empty text, and so everywhere")
    return Checked(compiled, tree, states)


def expression_fault(pattern: str, *, whole: bool = False) -> str | None:
    """Say what is wrong with an expression; None when it can be used."""
    try:
        check_expression(pattern, whole=whole)
    except Unreadable as error:
        return str(error)
    return None


def compile_bounded(pattern: str, *, latin: bool = False, captures: bool = False) -> "re2._Regexp[str]":
    """Compile what takes little memory. Raises Unreadable.

    Args:
        pattern: In the syntax of RE2.
        latin: Whether it is to be of bytes.
        captures: Whether groups are told apart.
    """
    options = re2.Options()
    options.never_capture = not captures
    options.log_errors = False
    options.max_mem = MOST_MEMORY
    try:
        if latin:
            options.encoding = re2.Options.Encoding.LATIN1
        return re2.compile(pattern.encode() if latin else pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else b""
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        # NB: behind the colon RE2 shows what it has read, which may be what nobody is to see.
        raise Unreadable(f"RE2 does not take it ({text.partition(':')[0].strip() or 'no reason'})") from error
    except UnicodeEncodeError as error:
        raise Unreadable("it is no valid text") from error


def _states(pattern: str, compiled: "re2._Regexp[str]") -> int:
    try:
        return min(int(compile_bounded(pattern, latin=True).programsize), int(compiled.programsize))
    except Unreadable:  # ranges of characters that are none of bytes
        return int(compiled.programsize)


def _check_places(tree: Node) -> None:
    for place in anchors(tree):
        if place in ("\\A", "\\z"):
            raise Unreadable(f"`{place}` is known of whole texts only; `^` and `$` are the beginning and end of a line")
