"""The objects of one list in a JSON document, cut out as its bytes come: `{"requests": [{...}, {...}]}`. Pure.

What is inside of an object is not read here, beyond where it ends; so whoever reads it finds what is wrong with it.
"""

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

_WHITE: Final = b" \t\r\n"
_TEXT_ENDS: Final = re.compile(rb'["\\]')
_STRUCTURE: Final = re.compile(rb'["{}\[\]]')
MOST_AROUND: Final = 4096
"""Bytes that are held of what stands before the list."""


class NotThatList(ValueError):
    """It is not a document of this one list of objects; says what it should be."""


class ObjectTooLong(ValueError):
    """An object is longer than it may be."""

    def __init__(self, number: int) -> None:
        super().__init__(f"object {number} is too long")
        self.number = number
        """From 0."""


class _At(Enum):
    HEAD = auto()
    FIRST = auto()
    INSIDE = auto()
    BEHIND = auto()
    NEXT = auto()
    TAIL = auto()
    END = auto()


class ArraySplitter:
    """Cuts bytes, however they come, into the objects of the list. It holds one of them at most."""

    def __init__(self, name: str, *, most_bytes: int) -> None:
        """The list stands under this name, and each of its objects has at most so many bytes."""
        self._must = f"must be an object with the list `{name}` of objects, and nothing else"
        self._head = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"' + re.escape(name.encode()) + rb'"[ \t\r\n]*:[ \t\r\n]*\[')
        self._most = most_bytes
        self._held = bytearray()
        self._at = _At.HEAD
        self._seen = 0
        """Up to where the object that is open was looked at."""
        self._depth = 0
        self._in_text = False
        self._number = 0

    @property
    def held(self) -> int:
        """How many bytes are kept of what came."""
        return len(self._held)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Give the objects that end here. Raises NotThatList and ObjectTooLong."""
        self._held += piece
        while True:
            if self._at is _At.INSIDE:
                found = self._object()
                if found is None:
                    return
                yield found
            elif not self._step():
                return

    def finish(self) -> None:
        """Nothing more comes. Raises NotThatList where something is missing."""
        if self._at is not _At.END:
            raise NotThatList(self._must)

    def _step(self) -> bool:
        """Go on around objects; False when more has to come first."""
        if self._at is _At.HEAD:
            found = self._head.match(self._held)
            if found is None:
                if len(self._held) > MOST_AROUND:
                    raise NotThatList(self._must)
                return False
            del self._held[: found.end()]
            self._at = _At.FIRST
        stripped = self._held.lstrip(_WHITE)
        if not stripped:
            return False
        self._held = stripped
        self._take_sign(bytes(stripped[:1]))
        return True

    def _take_sign(self, sign: bytes) -> None:
        """Take what stands around objects: commas, and the ends of the list and the document."""
        at = self._at
        if sign == b"{" and at in (_At.FIRST, _At.NEXT):
            self._at, self._seen, self._depth, self._in_text = _At.INSIDE, 0, 0, False
            return
        follows = {
            (b"]", _At.FIRST): _At.TAIL, (b"]", _At.BEHIND): _At.TAIL, (b",", _At.BEHIND): _At.NEXT,
            (b"}", _At.TAIL): _At.END,
        }.get((sign, at))  # fmt: skip
        if follows is None:
            raise NotThatList(self._must)
        del self._held[:1]
        self._at = follows

    def _object(self) -> bytes | None:
        """Give the open object where it ends here; None where more has to come."""
        held, at = self._held, self._seen
        while True:
            found = (_TEXT_ENDS if self._in_text else _STRUCTURE).search(held, at)
            if found is None:
                self._seen = len(held)
                break
            sign, at = found.group(), found.end()
            if sign == b"\\":
                if at == len(held):  # What it escapes has not come yet.
                    self._seen = at - 1
                    break
                at += 1
            elif sign == b'"':
                self._in_text = not self._in_text
            else:
                self._depth += 1 if sign in b"{[" else -1
                if not self._depth:
                    return self._cut(at)
        if len(held) > self._most:
            raise ObjectTooLong(self._number)
        return None

    def _cut(self, end: int) -> bytes:
        if end > self._most:
            raise ObjectTooLong(self._number)
        cut = bytes(self._held[:end])
        del self._held[:end]
        self._at = _At.BEHIND
        self._number += 1
        return cut
