"""The arguments of one tool call, from engines that send what is new in each piece, or all of them so far. Pure.

A piece that begins with all that came before may be either: behind `{"not":`, `{"not":1}` is the value that was due, or
the whole thing once more. It is once more only where what came and the piece together are the beginning of no JSON
document. Where they are, both wait for what follows: what a well-behaved engine sends is never taken for a repetition.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from sys import getsizeof
from typing import Any, Final

from capstan_gateway.streaming.call_parts import ObjectEnd
from capstan_gateway.streaming.json_so_far import JsonSoFar

MAX_DOUBTFUL: Final = 64 * 1024
"""Bytes of one call's arguments that may wait until it is known which of the two they are."""


@dataclass(slots=True)
class _Doubt:
    """Pieces that are more of the arguments, or each of them all so far."""

    document: JsonSoFar
    """The arguments if they are more of them."""
    pieces: list[str] = field(default_factory=list)
    newest: str = ""
    """The arguments if they are not."""
    size: int = 0

    def add(self, text: str) -> None:
        """Take a piece which may be either, or white space."""
        self.document.feed(text)
        self.pieces.append(text)
        self.size += getsizeof(text)
        if text.strip():
            self.newest = text


class Arguments:
    """Those of one call. Each method gives what is new of them, once it is certain."""

    __slots__ = ("_digest", "_doubt", "_end", "_is_object", "_length", "_repeats")

    def __init__(self) -> None:
        self._length = 0
        """Characters so far."""
        self._is_object = False
        """Whether they begin as an object."""
        self._end = ObjectEnd()
        self._digest: Any = blake2b(digest_size=16)
        self._doubt: _Doubt | None = None
        self._repeats = False
        """Whether this engine is known to send all of them so far in each piece."""

    @property
    def empty(self) -> bool:
        """Whether none came so far."""
        return not self._length

    @property
    def complete(self) -> bool:
        """Whether what is certain of them is a whole object or list."""
        return self._end.complete

    @property
    def held(self) -> int:
        """How many bytes wait."""
        return self._doubt.size if self._doubt is not None else 0

    def begins(self, text: str) -> bool:
        """Whether this text begins with all that is certain of them, an object or the beginning of one."""
        if not self._is_object or len(text) < self._length:
            return False
        beginning = text[: self._length].encode("utf-8", "surrogatepass")
        return bool(blake2b(beginning, digest_size=16).digest() == self._digest.digest())

    def add(self, text: str) -> str:
        """Take a piece."""
        doubt = self._doubt
        if doubt is not None:
            doubt.add(text)
            return self._more(doubt) if doubt.document.complete or doubt.size > MAX_DOUBTFUL else ""
        if text.strip() and self.begins(text):
            document = None if self._repeats else self._going_on_with(text)
            if document is not None:
                self._doubt = _Doubt(document)
                return self.add(text)
            self._repeats = True
            text = text[self._length :]
        return self._take(text)

    def settle(self, text: str) -> str:
        """See what is to follow, and perhaps know by it what the pieces are that wait."""
        doubt = self._doubt
        if doubt is None or not text.strip():
            return ""
        again = text.startswith(doubt.newest)
        if doubt.document.copy().feed(text):
            return "" if again else self._more(doubt)
        if again or (_is_whole(doubt.newest) and text.lstrip().startswith("{")):
            return self._again(doubt)
        return self._more(doubt)

    def rest(self, *, cut: bool) -> str:
        """They are over; `cut` when the answer broke off at its limit, perhaps amid them."""
        doubt = self._doubt
        if doubt is None:
            return ""
        return self._again(doubt) if _is_whole(doubt.newest) and not cut else self._more(doubt)

    def _going_on_with(self, text: str) -> JsonSoFar | None:
        """The arguments so far, with which this text begins, if it may go on with them as JSON as well."""
        document = JsonSoFar()
        if self.complete or not document.feed(text[: self._length]):
            return None
        return document if document.copy().feed(text) else None

    def _more(self, doubt: _Doubt) -> str:
        self._doubt = None
        return self._take("".join(doubt.pieces))

    def _again(self, doubt: _Doubt) -> str:
        self._doubt, self._repeats = None, True
        return self._take(doubt.newest[self._length :])

    def _take(self, text: str) -> str:
        self._is_object = self._is_object if self._length else text.lstrip().startswith("{")
        self._length += len(text)
        self._end.feed(text)
        self._digest.update(text.encode("utf-8", "surrogatepass"))
        return text


def _is_whole(text: str) -> bool:
    end = ObjectEnd()
    end.feed(text)
    return end.complete
