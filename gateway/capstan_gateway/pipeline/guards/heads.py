"""What answers say of guards in their heads. Pure, and apart from what knows policies."""

import re
from collections.abc import Iterable
from typing import Final

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST: Final = 1024
_LONGEST_NAME: Final = 64


def guard_lines(notes: Iterable[tuple[str, str]], *, unchecked: bool) -> bytes:
    """Give the header lines: what guards did, and whether something was not checked."""
    note = note_of(notes)
    lines = b"x-capstan-guard: %b\r\n" % note if note else b""
    return lines + (b"x-capstan-unchecked: media\r\n" if unchecked else b"")


def note_of(notes: Iterable[tuple[str, str]]) -> bytes:
    """Write what guards did, as `NAME=WORD; ...`: each pair once, of bounded length."""
    written = b""
    for name, word in dict.fromkeys(notes):
        one = f"{_UNFIT.sub('_', name)[:_LONGEST_NAME]}={word}".encode()
        if len(written) + len(one) > _LONGEST:
            return written + b"; ..."
        written += (b"; " if written else b"") + one
    return written
