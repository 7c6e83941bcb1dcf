"""Log-probabilities of a text that goes on later than they came, or otherwise: each goes with its token's text. Pure.

Tokens are matched with the text character by character. As soon as they do not fit it (engines tell the tokens of a
thought or a call among those of the text) none of them goes on any more: a token is text as well.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

Document = dict[str, Any]
MOST_WAITING: Final = 64 * 1024
"""Tokens, or characters, that may wait for the others."""
_MOST_BYTES: Final = 8
"""Tokens of which one character may be made."""
_TOKENS: Final = "tokens"


class Logprobs:
    """Those of one text."""

    __slots__ = ("_flags", "_lost", "_passed", "_queue", "_skip", "_text")

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes, Any]] = deque()
        self._text = ""
        """What has gone on and waits for its tokens."""
        self._flags = bytearray()
        """For each of its characters, whether it has gone on as it was."""
        self._passed = 0
        self._skip: int | None = None
        """Characters that had gone on, or waited, when the first tokens came; None as long as there are none."""
        self._lost = False

    def add(self, entries: Sequence[Any], at: int) -> None:
        """Take the tokens that came with a piece of text that begins at this place."""
        if self._skip is None:
            self._skip = max(0, at - self._passed)
        for entry in entries:
            self._queue.append((_bytes_of(entry), entry))
        if len(self._queue) > MOST_WAITING:
            self._lose()

    def went_on(self, text: str, *, kept: bool) -> None:
        """Note that this has gone on, as it was or written anew."""
        self._passed += len(text)
        if self._skip is None or self._lost:
            return
        skipped = min(self._skip, len(text))
        self._skip -= skipped
        self._text += text[skipped:]
        self._flags += bytes([kept]) * (len(text) - skipped)
        if len(self._text) > MOST_WAITING:
            self._lose()

    def due(self) -> list[Any]:
        """Give the tokens whose text has gone on as it was."""
        out: list[Any] = []
        while self._queue and not self._lost:
            group = self._group()
            if group is None:
                break
            text, count = group
            if not self._text.startswith(text):
                if not text.startswith(self._text):
                    self._lose()
                break
            entries = [self._queue.popleft()[1] for _ in range(count)]
            if all(self._flags[: len(text)]):
                out += entries
            self._text = self._text[len(text) :]
            del self._flags[: len(text)]
        return out

    def _group(self) -> tuple[str, int] | None:
        """Give the fewest tokens that are whole characters; None when some of them are to come."""
        data = b""
        for count, (piece, _) in enumerate(self._queue, 1):
            data += piece
            try:
                return data.decode(), count
            except UnicodeDecodeError:
                if count >= _MOST_BYTES:
                    self._lose()
                    return None
        return None

    def _lose(self) -> None:
        self._lost = True
        self._queue.clear()
        self._text, self._flags = "", bytearray()


def _bytes_of(entry: Any) -> bytes:
    given = entry.get("bytes") if isinstance(entry, dict) else None
    if isinstance(given, list):
        try:
            return bytes(given)
        except (TypeError, ValueError):
            return b"\xff"  # No text fits that.
    token = entry.get("token") if isinstance(entry, dict) else None
    return token.encode("utf-8", "surrogatepass") if isinstance(token, str) else b"\xff"


def entries_of(logprobs: Document, name: str) -> list[Any]:
    """Give the tokens of chat log-probabilities under `content` or `refusal`; of a completion's, with name `text`."""
    if name != "text":
        found = logprobs.get(name)
        return found if isinstance(found, list) else []
    tokens = logprobs.get(_TOKENS)
    if not isinstance(tokens, list):
        return []
    rows = {key: value for key, value in logprobs.items() if isinstance(value, list) and len(value) == len(tokens)}
    return [{"token": token, "row": {key: value[n] for key, value in rows.items()}} for n, token in enumerate(tokens)]


def written(entries: dict[str, list[Any]]) -> Document | None:
    """Write tokens as the log-probabilities of a chunk; None where there are none."""
    if rows := [entry["row"] for entry in entries.get("text", ())]:
        return {key: [row.get(key) for row in rows] for key in rows[0]}
    chat: Document = {name: found for name, found in entries.items() if found and name != "text"}
    return {"content": None, **chat} if chat else None
