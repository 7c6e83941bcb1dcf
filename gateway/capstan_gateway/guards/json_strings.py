"""Where in the source of a JSON document that comes in pieces strings are, and where the document is complete. Pure."""

import re
from collections.abc import Iterator
from typing import Final

_MARKS: Final = re.compile(r'["\\{}\[\]]')
_TO_AN_END: Final = re.compile(r"[^}\]]*[}\]]|[^}\]]+\Z")


class JsonPlace:
    """A place in the source of a document."""

    __slots__ = ("_depth", "_escaped", "complete", "in_string")

    def __init__(self) -> None:
        self._depth = 0
        self._escaped = False
        self.in_string = False
        self.complete = False
        """Whether an object or a list has ended that was not in another one."""

    def go_on(self, text: str) -> None:
        """Go over the next piece."""
        at = 0
        for mark in _MARKS.finditer(text):
            if self._escaped and mark.start() > at:
                self._escaped = False
            self._mark(mark.group())
            at = mark.end()
        if at < len(text):
            self._escaped = False

    def _mark(self, mark: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self.in_string:
            self._escaped = mark == "\\"
            self.in_string = mark != '"'
        elif mark == '"':
            self.in_string = True
        elif mark in "{[":
            self._depth += 1
        elif mark in "}]" and self._depth:
            self._depth -= 1
            self.complete = self.complete or self._depth == 0


def to_ends(text: str) -> Iterator[str]:
    """Cut a piece of source behind each bracket that may end the document."""
    return (found.group() for found in _TO_AN_END.finditer(text))


def replacement(written: str, begins: bool, ends: bool) -> str:
    """Give what stands in the source for something that begins, and ends, inside a string or outside of one.

    A word that stands for a number or another bare value is a string.
    """
    return f"{'' if begins else chr(34)}{written}{'' if ends else chr(34)}"
