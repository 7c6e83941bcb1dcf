"""Where in the source of a JSON document that comes in pieces one is: inside a string or not, and how deep. Pure."""

import re
from typing import Final

_MARKS: Final = re.compile(r'["\\{}\[\]]')


class JsonMarks:
    """Goes over the source by its brackets and quotes; what a bracket at the end means, `close` says."""

    __slots__ = ("_escaped", "depth", "in_string")

    def __init__(self) -> None:
        self._escaped = False
        self.depth = 0
        """Objects and lists that have begun and not ended."""
        self.in_string = False

    def feed(self, text: str) -> None:
        """Take the next piece."""
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
            self.depth += 1
        elif mark in "}]":
            self.close()

    def close(self) -> None:
        """Take a bracket that ends an object or a list."""
        raise NotImplementedError
