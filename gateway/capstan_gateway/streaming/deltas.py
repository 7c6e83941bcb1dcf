"""The pieces of chat and text completion chunks: whether they are well formed, and the text in them.

What engines are known to send in place of the right form is taken: `null` for any field, content in parts, a tool
call's arguments as an object. Anything else of a wrong type is no answer: no client could make sense of it.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import orjson

from capstan_gateway.streaming.asked import NOTHING, Asked
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.forms import REASONING, TYPED, is_named_otherwise, is_odd
from capstan_gateway.streaming.sse import json_of
from capstan_gateway.tokens.estimate import TextCount

TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal")
"""Fields of a delta or a message that hold what the model said."""

CALLED: Final = "tool_calls"
"""The finish reason of who has called tools."""
FAILED: Final = "error"
"""The finish reason by which OpenRouter and others say that they broke off."""
_BROKE_OFF: Final = "the model's engine broke its answer off"
_REASONING: Final = frozenset(REASONING)


def choices_of(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the choices of a chunk; StreamBroken when they are none."""
    choices = chunk.get("choices")
    if choices is None:
        return []
    if type(choices) is not list:
        raise malformed("choices", "a list")
    for choice in choices:
        if type(choice) is not dict:
            raise malformed("choices", "a list of objects")
    return choices


def texts_of(choice: dict[str, Any]) -> Iterator[str]:
    """Give every piece of text in one choice of a chunk; StreamBroken for what a client could not read."""
    if choice.get("text") is not None:
        yield _text(choice, "text")
    finish = choice.get("finish_reason")
    if finish is not None and type(finish) is not str:
        raise malformed("finish_reason", "a string")
    delta = choice.get("delta")
    if delta is None:
        return
    if type(delta) is not dict:
        raise malformed("delta", "an object")
    yield from delta_texts(delta)


def delta_texts(delta: dict[str, Any]) -> Iterator[str]:
    """Give every piece of text in a delta, or in a message."""
    content = delta.get("content")
    if type(content) is list:
        yield from _part_texts(content)
    elif content is not None:
        yield _text(delta, "content")
    if not _REASONING.isdisjoint(delta):
        yield from _reasoning_texts(delta)
    if delta.get("refusal") is not None:
        yield _text(delta, "refusal")
    if delta.get("role") is not None:
        _text(delta, "role")
    if delta.get("function_call") is not None:
        yield from _function_texts(delta["function_call"], "function_call")
    calls = delta.get("tool_calls")
    if calls is None:
        return
    if type(calls) is not list:
        raise malformed("tool_calls", "a list")
    for call in calls:
        yield from _call_texts(call)


def _reasoning_texts(delta: dict[str, Any]) -> Iterator[str]:
    """What the model thought: once, also where an engine tells it under two names."""
    told = False
    for name in REASONING:
        value = delta.get(name)
        if value is None or (type(value) is list and name not in TYPED):
            continue
        if type(value) is dict:  # Some engines give an object for it.
            texts = [_text(value, key) for key in ("text", "summary", "content") if value.get(key) is not None]
        else:
            texts = [_text(delta, name)]
        if not told:
            told = any(texts)
            yield from filter(None, texts)


def _part_texts(parts: list[Any]) -> Iterator[str]:
    for part in parts:
        if type(part) is not dict:
            raise malformed("content", "a string, or a list of objects")
        for name in ("text", "thinking"):
            value = part.get(name)
            if type(value) is list:
                yield from _part_texts(value)  # Mistral's thoughts are parts within a part.
            elif value is not None:
                yield _text(part, name)


def _call_texts(call: Any) -> Iterator[str]:
    if type(call) is not dict:
        raise malformed("tool_calls", "a list of objects")
    index = call.get("index")
    if index is not None and type(index) is not int:
        raise malformed("tool_calls.index", "a whole number")
    for name in ("id", "type"):
        if call.get(name) is not None:
            _text(call, name)
    if call.get("function") is not None:
        yield from _function_texts(call["function"], "tool_calls.function")


def _function_texts(function: Any, field: str) -> Iterator[str]:
    if type(function) is not dict:
        raise malformed(field, "an object")
    if function.get("name") is not None:
        yield _text(function, "name")
    arguments = function.get("arguments")
    if type(arguments) is dict or type(arguments) is list:
        yield json_of(arguments).decode()
    elif arguments is not None:
        yield _text(function, "arguments")


def _text(holder: dict[str, Any], name: str) -> str:
    value = holder[name]
    if type(value) is not str:
        raise malformed(name, "a string")
    return value


def malformed(field: str, must: str) -> StreamBroken:
    """Give the error of a chunk that no client could read. It names the field and never what was in it."""
    return StreamBroken(f"the model's engine sent a malformed answer: `{field}` must be {must}")


class Said:
    """What a stream of chunks has said so far: which choices are over, and how much text came."""

    __slots__ = ("_asked", "begun", "called", "deeply_odd", "finished", "odd", "text", "unfinished")

    def __init__(self, asked: Asked = NOTHING) -> None:
        self._asked = asked
        self.odd = False
        """Whether something came in a form that not every client reads."""
        self.deeply_odd = False
        """Whether that takes more to mend than the bytes: all but reasoning under vLLM's name does."""
        self.called = False
        """Whether there was a call, or the finish reason of one. vLLM writes an empty list where there is none."""
        self.text = TextCount()
        self.begun = False
        """Whether a first token came: text, a call, or the finish of an answer that has none. What has neither, such as
        an empty delta with the role, is not one: engines send it before they have begun to work."""
        self.finished: set[int] = set()
        """The choices whose finish reason was seen, by index."""
        self.unfinished: set[int] = set()
        """The choices that have begun without one."""

    @property
    def whole(self) -> bool:
        """A finish reason was seen of every choice that has begun."""
        return bool(self.finished) and not self.unfinished

    @property
    def open_choice(self) -> int | None:
        """The one choice that has begun to speak and is not over; None of any other number of them."""
        return next(iter(self.unfinished)) if self.begun and len(self.unfinished) == 1 else None

    def note(self, choices: list[dict[str, Any]]) -> None:
        """Take the choices of one chunk; StreamBroken when they are malformed."""
        for choice in choices:
            spoke = False
            for text in texts_of(choice):
                if text:
                    self.text.add(text)
                    spoke = True
            if spoke:
                self.text.pieces += 1
                self.begun = True
            index = choice.get("index")
            if index is None:
                index = 0
            elif type(index) is not int:
                raise malformed("index", "a whole number")
            if index and self._asked.single:
                self.odd, self.deeply_odd, index = True, True, 0
            finish = choice.get("finish_reason")
            self._note_form(choice)
            if finish:
                if finish == FAILED:
                    raise StreamBroken(_BROKE_OFF)
                self.begun = True
                self.finished.add(index)
                self.unfinished.discard(index)
            elif index not in self.finished:
                self.unfinished.add(index)

    def _note_form(self, choice: dict[str, Any]) -> None:
        delta, finish = choice.get("delta"), choice.get("finish_reason")
        if finish == CALLED:
            self.called = True
        if delta is None:
            deeply = odd = self._asked.chat
            if odd and choice.get("message") is not None:
                self._note_message(choice["message"])
        else:
            if delta.get("tool_calls") or delta.get("function_call"):
                self.called = True
            odd = self._asked.client_reads_chat and is_odd(delta)
            deeply = odd and not is_named_otherwise(delta)
        if finish == "":
            deeply = odd = True
        if odd:
            self.odd, self.deeply_odd = True, self.deeply_odd or deeply

    def _note_message(self, message: Any) -> None:
        """Take what stands in place of a delta."""
        if type(message) is not dict:
            raise malformed("message", "an object")
        for text in delta_texts(message):
            if text:
                self.text.add(text)
                self.begun = True


def said_in(body: bytes) -> TextCount:
    """Count the text in a whole chat or text completion; none in any other answer, and in one that is malformed."""
    count = TextCount()
    try:
        for text in _answer_texts(body):
            count.add(text)
    except (orjson.JSONDecodeError, StreamBroken):
        pass
    return count


def check_answer(body: bytes) -> None:
    """Raise StreamBroken for a chat completion that is malformed; what is no JSON is somebody else's to see."""
    with suppress(orjson.JSONDecodeError):
        for _ in _answer_texts(body):
            pass


def _answer_texts(body: bytes) -> Iterator[str]:
    document = orjson.loads(body)
    for choice in choices_of(document) if type(document) is dict else ():
        yield from texts_of(choice)
        message = choice.get("message")
        if message is not None and type(message) is not dict:
            raise malformed("message", "an object")
        if message is not None:
            yield from delta_texts(message)
