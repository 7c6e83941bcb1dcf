"""The whole answer that a stream of chunks adds up to: the inverse of `streaming.replay`.

However an engine cuts an answer into chunks, they assemble to the same: several choices, tool calls whose arguments
come in pieces, log-probabilities, reasoning, refusals, usage. Fields that are not known here stay as they came last.
"""

from typing import Any, Final

from capstan_gateway.streaming.deltas import TEXTS, choices_of, texts_of
from capstan_gateway.streaming.sse import json_of
from capstan_gateway.tokens.estimate import TextCount

Document = dict[str, Any]
_JOINED: Final = frozenset(TEXTS)
"""Fields of a message that come in pieces."""
_OWN: Final = frozenset(("object", "choices", "usage"))
_PLACED: Final = frozenset(("index", "delta", "logprobs", "finish_reason", "text"))


class Assembler:
    """One answer in the making."""

    def __init__(self) -> None:
        self._head: Document = {}
        self._object = ""
        self._usage: Any = None
        self._choices: dict[int, _Choice] = {}
        self.text = TextCount()
        """How much text came: whoever holds answers bounds them by it."""

    def add(self, chunk: Document) -> None:
        """Take a chunk; StreamBroken when it is malformed."""
        choices = choices_of(chunk)
        self._object = self._object or str(chunk.get("object") or "")
        for name, value in chunk.items():
            # NB: an id or a model that changes in the middle is still one answer.
            if name not in _OWN and (name not in self._head or self._head[name] is None):
                self._head[name] = value
        if chunk.get("usage") is not None:
            self._usage = chunk["usage"]
        for piece in choices:
            for text in texts_of(piece):
                self.text.add(text)
            index = piece.get("index") or 0
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = _Choice()
            choice.add(piece)

    @property
    def whole(self) -> bool:
        """Whether there are choices, and each has said why it ended."""
        return bool(self._choices) and all(choice.finish for choice in self._choices.values())

    def answer(self) -> Document:
        """The answer as far as it came."""
        chat = self._object != "text_completion"
        choices = [choice.written(index, chat=chat) for index, choice in sorted(self._choices.items())]
        answer = {**self._head, "object": "chat.completion" if chat else "text_completion", "choices": choices}
        return answer if self._usage is None else {**answer, "usage": self._usage}


class _Choice:
    """One choice."""

    def __init__(self) -> None:
        self.finish: str | None = None
        self._message: Document = {}
        self._pieces: dict[str, list[Any]] = {}
        """Of the fields that are joined."""
        self._calls: list[_Call] = []
        self._logprobs: Document | None = None
        self._text: list[str] = []
        self._rest: Document = {}

    def add(self, piece: Document) -> None:
        self.finish = piece.get("finish_reason") or self.finish
        if piece.get("text") is not None:
            self._text.append(piece["text"])
        if piece.get("logprobs") is not None:
            self._logprobs = _longer(self._logprobs, piece["logprobs"])
        for name, value in piece.items():
            if name not in _PLACED and (value is not None or name not in self._rest):
                self._rest[name] = value
        for name, value in (piece.get("delta") or {}).items():
            if value is None:
                continue
            if name in _JOINED:
                self._pieces.setdefault(name, []).append(value)
            elif name == "tool_calls":
                for call in value:
                    self._call_of(call).add(call)
            elif name == "function_call":
                self._message[name] = _joined_function(self._message.get(name), value)
            else:
                self._message[name] = value

    def _call_of(self, piece: Document) -> "_Call":
        """The call that a piece belongs to; a piece without an index goes on with the newest, unless its id is new."""
        index, calls = piece.get("index"), self._calls
        if index is None:
            if calls and (not piece.get("id") or piece["id"] == calls[-1].id):
                return calls[-1]
            index = calls[-1].index + 1 if calls else 0
        for call in calls:
            if call.index == index:
                return call
        calls.append(_Call(index))
        return calls[-1]

    def written(self, index: int, *, chat: bool) -> Document:
        choice: Document = {"index": index, **self._rest, "logprobs": self._logprobs, "finish_reason": self.finish}
        if not chat:
            return {**choice, "text": "".join(self._text)}
        joined = {name: _joined(pieces) for name, pieces in self._pieces.items()}
        message: Document = {"role": "assistant", "content": None, **self._message, **joined}
        if self._calls:
            message["tool_calls"] = [call.written() for call in sorted(self._calls, key=_index_of)]
        return {**choice, "message": message}


class _Call:
    """One tool call."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.id: Any = None
        self._fields: Document = {}
        self._function: Document | None = None

    def add(self, piece: Document) -> None:
        self.id = self.id or piece.get("id")
        for name, value in piece.items():
            if name == "function":
                self._function = _joined_function(self._function, value or {})
            elif name != "index" and self._fields.get(name) is None:
                self._fields[name] = value

    def written(self) -> Document:
        return self._fields if self._function is None else {**self._fields, "function": self._function}


def _index_of(call: _Call) -> int:
    return call.index


def _joined_function(known: Document | None, piece: Document) -> Document:
    """A function with the name that came first, and all of its arguments."""
    function = dict(known or {})
    for name, value in piece.items():
        if name == "arguments" and value is not None:
            text = value if isinstance(value, str) else json_of(value).decode()
            function[name] = (function.get(name) or "") + text
        elif function.get(name) is None:
            function[name] = value
    return function


def _joined(pieces: list[Any]) -> Any:
    """A text; or the list of its parts, when it came in parts."""
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    parts: list[Any] = []
    for piece in pieces:
        parts.extend(piece if isinstance(piece, list) else [{"type": "text", "text": piece}])
    return parts


def _longer(known: Document | None, piece: Any) -> Any:
    """Log-probabilities with those of one more piece, which what is known takes in: lists go on, what is something else
    stays as it came last."""
    if not isinstance(piece, dict):
        return piece
    if not isinstance(known, dict):
        return {name: _own(value) for name, value in piece.items()}
    for name, value in piece.items():
        before = known.get(name)
        if isinstance(before, list) and isinstance(value, list):
            before.extend(value)
        elif value is not None or name not in known:
            known[name] = _own(value)
    return known


def _own(value: Any) -> Any:
    """Give a list that can be made longer, and anything else as it is: a chunk is its giver's."""
    return list(value) if isinstance(value, list) else value
