"""Stream filters as policies will have them: they pass on, hold back a window, rewrite, block, end the stream."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.streaming.filters import Chunks, Document, EndOfStream


def text_of(chunk: Document) -> str:
    """Give the text of a chunk with one choice."""
    return "".join((choice.get("delta") or {}).get("content") or "" for choice in chunk.get("choices") or ())


class Passing:
    """Passes everything on, after so many turns of the loop."""

    def __init__(self, turns: int = 0) -> None:
        self.turns = turns

    @property
    def held(self) -> int:
        """How many bytes it holds."""
        return 0

    def chunk(self, chunk: Document) -> Any:
        """Take a chunk."""
        return self._given((chunk,))

    def idle(self) -> Any:
        """Give what may go on."""
        return self._given(())

    def end(self) -> Any:
        """Give what is held."""
        return self._given(())

    def _given(self, chunks: Chunks) -> Any:
        return self._later(chunks) if self.turns else chunks

    async def _later(self, chunks: Chunks) -> Chunks:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return chunks


class Withholding(Passing):
    """Holds everything back to the end."""

    def __init__(self, turns: int = 0) -> None:
        super().__init__(turns)
        self._kept: list[Document] = []
        self._held = 0

    @property
    def held(self) -> int:
        """How many bytes it holds."""
        return self._held

    def chunk(self, chunk: Document) -> Any:
        """Take a chunk."""
        self._kept.append(chunk)
        self._held += 100 + len(text_of(chunk))
        return self._given(())

    def end(self) -> Any:
        """Give what is held."""
        self._held = 0
        return self._given(self._kept)


class Replacing(Passing):
    """Writes one word anew wherever it stands, however the text is cut: as much is held back as may begin it.

    What may begin it is given when the engine is silent only if `eager`: then a word that is cut there is not found.
    """

    def __init__(self, word: str, by: str, turns: int = 0, *, eager: bool = False) -> None:
        super().__init__(turns)
        self._word = word
        self._by = by
        self._eager = eager
        self._tail = ""
        self._last: Document | None = None

    @property
    def held(self) -> int:
        """How many bytes it holds."""
        return len(self._tail)

    def chunk(self, chunk: Document) -> Any:
        """Take a chunk."""
        text = text_of(chunk)
        if not text:
            return self._given((*self._flush(), chunk) if _ends(chunk) else (chunk,))
        self._last = chunk
        ready = self._found(self._tail + text, whole=_ends(chunk))
        return self._given((_with_text(chunk, ready),) if ready or _ends(chunk) else ())

    def idle(self) -> Any:
        """Give what may go on."""
        return self._given(self._flush() if self._eager else ())

    def end(self) -> Any:
        """Give what is held."""
        return self._given(self._flush())

    def found(self) -> str:
        """Give what stands in place of the word."""
        return self._by

    def _found(self, text: str, *, whole: bool) -> str:
        out = ""
        while (at := text.find(self._word)) >= 0:
            out += text[:at] + self.found()
            text = text[at + len(self._word) :]
        kept = 0 if whole else _overlap(text, self._word)
        self._tail = text[len(text) - kept :]
        return out + text[: len(text) - kept]

    def _flush(self) -> Sequence[Document]:
        tail, self._tail = self._tail, ""
        return (_with_text(self._last, tail),) if tail and self._last is not None else ()


class Blocking(Replacing):
    """Blocks the answer in which a word stands, however it is cut."""

    def __init__(self, word: str, turns: int = 0) -> None:
        super().__init__(word, "", turns)

    def found(self) -> str:
        """Block it."""
        raise InvalidRequest("a guard blocks this answer", code="content_filter")


class Limiting(Passing):
    """Ends the answer behind so many characters."""

    def __init__(self, characters: int, turns: int = 0) -> None:
        super().__init__(turns)
        self._left = characters

    def chunk(self, chunk: Document) -> Any:
        """Take a chunk."""
        text = text_of(chunk)
        if len(text) > self._left:
            raise EndOfStream("length", (_with_text(chunk, text[: self._left], ends=False),) if self._left else ())
        self._left -= len(text)
        return self._given((chunk,))


@dataclass(frozen=True)
class Said:
    """What a client gets of an answer."""

    text: str
    finish: str | None = None
    error: str | None = None


def _ends(chunk: Document) -> bool:
    return any(choice.get("finish_reason") for choice in chunk.get("choices") or ())


def _with_text(chunk: Document, text: str, *, ends: bool = True) -> Document:
    choice = chunk["choices"][0]
    written = {**choice, "delta": {**choice["delta"], "content": text}}
    return {**chunk, "choices": [written if ends else {**written, "finish_reason": None}]}


def _overlap(text: str, word: str) -> int:
    """How many characters at the end of the text may begin the word."""
    return next((size for size in range(min(len(word) - 1, len(text)), 0, -1) if word.startswith(text[-size:])), 0)
