"""An answer put together from the chunks of a stream of chat completions, or from a whole one. Pure.

What a server says is held to no more than it has to be: fields that are missing or of another type are passed over, as
engines differ; a document that is no object, or an answer that never ends, is an error with a code.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from capstan_evaluation.records import Answer, Usage

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of one answer."""
CONTENT_FILTER: Final = "content_filter"
DONE: Final = b"[DONE]"
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_THOUGHTS: Final = ("reasoning_content", "reasoning")
_LARGEST: Final = 3.4e38
"""Of a 32-bit float."""


class BadStream(Exception):
    """What came is no answer; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Frames:
    """The data of server-sent events, from bytes however they are cut."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Give the events that end in these bytes. Raises BadStream when all of them together are too many."""
        self._size += len(piece)
        if self._size > MOST_BYTES:
            raise BadStream("answer_too_large")
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                data, self._data = b"\n".join(self._data), []
                yield data


class Assembly:
    """One answer as it comes."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self.finish = ""
        self.usage: Usage | None = None
        self.begun = False
        """Whether the first token is there, be it a thought or a call."""

    def add(self, data: bytes) -> None:
        """Take in one chunk, or a whole completion. Raises BadStream."""
        document = parse(data)
        if document.get("error") is not None:
            raise BadStream(error_code(document, "stream_failed"))
        self.usage = _usage(document.get("usage")) or self.usage
        choices = document.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            self._add_delta(delta)
        finish = choice.get("finish_reason")
        self.finish = finish[:64] if isinstance(finish, str) else self.finish

    def answer(self, *, seconds: float, first: float | None) -> Answer:
        """Give what came."""
        return Answer(
            text=clean("".join(self._texts)),
            refusal=clean("".join(self._refusals)),
            finishReason=clean(self.finish),
            usage=self.usage or Usage(),
            seconds=seconds,
            firstTokenSeconds=first,
        )

    def _add_delta(self, delta: Mapping[str, Any]) -> None:
        for name, texts in (("content", self._texts), ("refusal", self._refusals)):
            if isinstance(piece := delta.get(name), str) and piece:
                texts.append(piece)
                self.begun = True
        if any(delta.get(name) for name in (*_THOUGHTS, "tool_calls")):
            self.begun = True


def parse(data: bytes) -> dict[str, Any]:
    """Read a JSON object. Raises BadStream."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise BadStream("bad_answer") from None
    if not isinstance(document, dict):
        raise BadStream("bad_answer")
    return document


def error_code(document: Mapping[str, Any], otherwise: str) -> str:
    """Give the code of an error's envelope: a short word, never a message, as that may quote a prompt."""
    error = document.get("error", document)
    for name in ("code", "type"):
        code = error.get(name) if isinstance(error, dict) else None
        if isinstance(code, str) and _CODE.fullmatch(code):
            return code
    return otherwise


def read_vectors(document: Mapping[str, Any], texts: int) -> tuple[tuple[float, ...], ...]:
    """Give the vectors of an answer to /v1/embeddings, in the order of the texts. Raises BadStream."""
    try:
        rows = {int(row["index"]): tuple(float(value) for value in row["embedding"]) for row in document["data"]}
        vectors = tuple(rows[at] for at in range(texts))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BadStream("bad_answer") from None
    # NB: they are kept as 32-bit floats.
    if any(not abs(value) <= _LARGEST for vector in vectors for value in vector):
        raise BadStream("bad_answer")
    return vectors


def usage_of(document: Mapping[str, Any]) -> Usage:
    """Give the usage of a whole answer."""
    return _usage(document.get("usage")) or Usage()


def clean(text: str) -> str:
    """Give a text without halves of characters, which JSON can say and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _usage(said: object) -> Usage | None:
    if not isinstance(said, dict):
        return None
    details = said.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    cost = said.get("cost")
    return Usage(
        inputTokens=_count(said.get("prompt_tokens")),
        cachedInputTokens=cached,
        outputTokens=_count(said.get("completion_tokens")),
        cost=float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < 1e9 else None,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**53 else 0
