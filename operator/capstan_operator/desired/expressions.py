"""Whether a gateway can use an expression of a guard: it must be one of RE2, within bounds.

What a gateway refuses makes it serve no model that the policy is in force on, so it is found here before: the bounds
are those of the gateway, and a test holds the two together.
"""

from typing import Any, Final

import re2  # type: ignore[import-untyped]

MOST_PROGRAM: Final = 20_000
"""Instructions that an expression may compile to."""
MOST_STEPS: Final = 1_000
"""States that one expression may have, if only bytes are told apart."""
MOST_TOGETHER: Final = 4_000
"""States of all expressions of a guard."""
_EMPTY_IN: Final = ("", "a", " a", "a a")
"""An expression that matches the empty text somewhere does so in one of these."""


def expression_fault(pattern: str, *, whole: bool = False) -> str | None:
    """Say what is wrong with an expression, without a part of it; None when a gateway can use it. `whole`: it is to
    match whole texts, which may be empty."""
    try:
        compiled = _compiled(pattern)
    except re2.error as error:
        said = error.args[0] if error.args else b""
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        return text.partition(":")[0].strip() or "it cannot be read"
    except UnicodeEncodeError:
        return "it is no valid text"
    if compiled.programsize > MOST_PROGRAM or states_of(pattern) > MOST_STEPS:
        return "it is too large; repeat less often, or say less in one"
    if not whole and any(one.start() == one.end() for text in _EMPTY_IN for one in compiled.finditer(text)):
        return "it matches the empty text, and so everywhere"
    return None


def states_of(pattern: str) -> int:
    """Give the states of an expression that RE2 compiles."""
    size = int(_compiled(pattern).programsize)
    try:
        return min(size, int(_compiled(pattern, latin=True).programsize))
    except re2.error:  # ranges of characters that are none of bytes
        return size


def _compiled(pattern: str, *, latin: bool = False) -> Any:
    options = re2.Options()
    options.never_capture = True
    options.log_errors = False
    if latin:
        options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(pattern.encode() if latin else pattern, options)
