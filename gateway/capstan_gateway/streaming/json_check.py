"""Whether bytes are one JSON document (RFC 8259), told in small steps.

A parser holds the interpreter until it is through, in whatever thread it runs: seconds for tens of megabytes. These
steps take a fraction of a millisecond each, build nothing, and leave the loop to others between them.
"""

import codecs
import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

STEP_BYTES: Final = 64 * 1024
STEP_TOKENS: Final = 512
MAX_DEPTH: Final = 1024
"""What parsers take as well."""
_NUMBER: Final = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
_SCALAR: Final = re.compile(rb"%b|true|false|null" % _NUMBER)
_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_NUMBERS: Final = re.compile(rb"(?:%b[ \t\n\r]*+,[ \t\n\r]*+)++" % _NUMBER)
"""A run of numbers in a list, such as an embedding: read in one go."""
_INSIDE: Final = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))++')
_QUOTE, _COMMA, _COLON = b'",:'
_OPEN: Final = {ord("["): ord("]"), ord("{"): ord("}")}


class NotJson(ValueError):
    """The bytes are no JSON document."""


class _Next(Enum):
    VALUE = auto()
    VALUE_OR_END = auto()
    KEY = auto()
    KEY_OR_END = auto()
    COLON = auto()
    COMMA_OR_END = auto()


def check_json(data: bytes) -> Iterator[None]:
    """Check a document step by step; NotJson when it is none."""
    yield from _check_utf8(data)
    yield from _Walk(data).steps()


def _check_utf8(data: bytes) -> Iterator[None]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(data), STEP_BYTES):
            decoder.decode(data[at : at + STEP_BYTES])
            yield
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise NotJson("not UTF-8") from error


class _Walk:
    """One document, token by token."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._ends: list[int] = []
        """What closes the lists and objects that are open."""
        self._next = _Next.VALUE

    def steps(self) -> Iterator[None]:
        """Walk to the end; NotJson where that is not possible."""
        tokens, began = 0, 0
        while True:
            self._space()
            if self._next is _Next.COMMA_OR_END and not self._ends:
                break
            in_string = self._token()
            if in_string:
                yield from self._string()
            tokens += 1
            if tokens >= STEP_TOKENS or self._at - began >= STEP_BYTES:
                tokens, began = 0, self._at
                yield
        if self._at < len(self._data):
            raise NotJson("something follows")

    def _space(self) -> None:
        found = _SPACE.match(self._data, self._at)
        if found is not None:
            self._at = found.end()

    def _token(self) -> bool:
        """Take one token; True when that opens a string, which is to be read."""
        if self._at >= len(self._data):
            raise NotJson("it ends too early")
        byte, expected = self._data[self._at], self._next
        if self._ends and byte == self._ends[-1] and expected in _MAY_END:
            self._ends.pop()
            self._take(1, _Next.COMMA_OR_END)
        elif expected is _Next.COMMA_OR_END:
            self._must(byte == _COMMA)
            self._take(1, _Next.KEY if self._ends[-1] == ord("}") else _Next.VALUE)
        elif expected is _Next.COLON:
            self._must(byte == _COLON)
            self._take(1, _Next.VALUE)
        elif byte == _QUOTE:
            self._take(1, _Next.COLON if expected in _KEYS else _Next.COMMA_OR_END)
            return True
        else:
            self._must(expected not in _KEYS)
            self._value(byte)
        return False

    def _value(self, byte: int) -> None:
        closing = _OPEN.get(byte)
        if closing is not None:
            self._must(len(self._ends) < MAX_DEPTH)
            self._ends.append(closing)
            self._take(1, _Next.KEY_OR_END if byte == ord("{") else _Next.VALUE_OR_END)
            return
        if self._ends and self._ends[-1] == ord("]"):
            run = _NUMBERS.match(self._data, self._at, min(self._at + STEP_BYTES, len(self._data)))
            if run is not None:
                self._at, self._next = run.end(), _Next.VALUE
                return
        scalar = _SCALAR.match(self._data, self._at)
        if scalar is None:
            raise NotJson("no value where one must be")
        self._at, self._next = scalar.end(), _Next.COMMA_OR_END

    def _string(self) -> Iterator[None]:
        """Read to the quote that closes a string."""
        data, size = self._data, len(self._data)
        while True:
            piece = _INSIDE.match(data, self._at, min(self._at + STEP_BYTES, size))
            if piece is None:
                self._must(self._at < size and data[self._at] == _QUOTE)
                self._at += 1
                return
            if piece.end() - self._at >= STEP_BYTES - 8:
                yield
            self._at = piece.end()

    def _take(self, size: int, expected: _Next) -> None:
        self._at += size
        self._next = expected

    def _must(self, holds: bool) -> None:
        if not holds:
            raise NotJson("something else than must follow")


_KEYS: Final = frozenset((_Next.KEY, _Next.KEY_OR_END))
_MAY_END: Final = frozenset((_Next.VALUE_OR_END, _Next.KEY_OR_END, _Next.COMMA_OR_END))
