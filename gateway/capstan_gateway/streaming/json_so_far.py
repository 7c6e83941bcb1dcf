"""Whether text that comes in pieces may still become a JSON document. Pure.

Kinder than RFC 8259: any word may be a number or a literal, and strings may hold any character, as models write them.
"""

import re
from enum import Enum, auto
from typing import Final

MAX_DEPTH: Final = 1024
"""What parsers take as well."""
_SCALAR: Final = re.compile(r'[^\s"{}\[\]:,]+')
_INSIDE: Final = re.compile(r'[^"\\]+')
_SPACE: Final = re.compile(r"\s+")


class _Next(Enum):
    VALUE = auto()
    VALUE_OR_END = auto()
    KEY = auto()
    KEY_OR_END = auto()
    COLON = auto()
    COMMA_OR_END = auto()


class JsonSoFar:
    """One document on its way."""

    __slots__ = ("_ends", "_escaped", "_in_scalar", "_in_string", "_next")

    def __init__(self) -> None:
        self._ends = ""
        """What closes the lists and objects that are open."""
        self._next = _Next.VALUE
        """What must follow; inside of a string, behind it."""
        self._in_string = self._escaped = self._in_scalar = False

    @property
    def complete(self) -> bool:
        """Whether an object or a list is whole, and only white space may follow."""
        return not self._ends and self._next is _Next.COMMA_OR_END and not (self._in_string or self._in_scalar)

    def copy(self) -> "JsonSoFar":
        """One that goes on by itself."""
        made = JsonSoFar()
        made._ends, made._next = self._ends, self._next
        made._in_string, made._escaped, made._in_scalar = self._in_string, self._escaped, self._in_scalar
        return made

    def feed(self, text: str) -> bool:
        """Take the next piece; False when the text is none that any JSON document begins with: it is of no use then."""
        at = 0
        while at < len(text):
            if self._in_string:
                at = self._string(text, at)
                continue
            if found := _SPACE.match(text, at):
                self._in_scalar, at = False, found.end()
            elif found := _SCALAR.match(text, at):
                if not self._scalar():
                    return False
                at = found.end()
            else:
                self._in_scalar = False
                if not self._mark(text[at]):
                    return False
                at += 1
        return True

    def _string(self, text: str, at: int) -> int:
        """Read on in a string; give where."""
        if self._escaped:
            self._escaped = False
            return at + 1
        if found := _INSIDE.match(text, at):
            return found.end()
        self._escaped, self._in_string = text[at] == "\\", text[at] != '"'
        return at + 1

    def _scalar(self) -> bool:
        if self._in_scalar:
            return True
        self._in_scalar = self._next in _VALUES
        self._next = _Next.COMMA_OR_END
        return self._in_scalar

    def _mark(self, mark: str) -> bool:
        expected = self._next
        if mark == '"':
            self._in_string, self._next = True, _Next.COLON if expected in _KEYS else _Next.COMMA_OR_END
            return expected in _KEYS or expected in _VALUES
        if mark in "{[":
            self._ends += "}" if mark == "{" else "]"
            self._next = _Next.KEY_OR_END if mark == "{" else _Next.VALUE_OR_END
            return expected in _VALUES and len(self._ends) <= MAX_DEPTH
        if mark == ":":
            self._next = _Next.VALUE
            return expected is _Next.COLON
        if mark == ",":
            self._next = _Next.KEY if self._ends.endswith("}") else _Next.VALUE
            return expected is _Next.COMMA_OR_END and bool(self._ends)
        closes = self._ends.endswith(mark) and expected in _MAY_END
        self._ends, self._next = self._ends[:-1], _Next.COMMA_OR_END
        return closes


_KEYS: Final = frozenset((_Next.KEY, _Next.KEY_OR_END))
_VALUES: Final = frozenset((_Next.VALUE, _Next.VALUE_OR_END))
_MAY_END: Final = frozenset((_Next.VALUE_OR_END, _Next.KEY_OR_END, _Next.COMMA_OR_END))
