"""The texts of one choice of a stream, taken out of its chunks and put back as they go on. Pure.

    chunk ─► what a model says in it, by channel ─► (judged, held, rewritten) ─► chunk

A channel is one text: the content, the thoughts, a refusal, the arguments of one call. Whatever else an engine puts
into a choice and guards could not read (token ids, annotations, the thoughts once more in parts) goes no further.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from capstan_contract.guards import Source
from capstan_gateway.guards.window import Part
from capstan_gateway.pipeline.guards.vocabulary import WORDS
from capstan_gateway.streaming.cut import NOTE
from capstan_gateway.streaming.forms import OWN, READ, REASONING, TYPED, reasoning_of, refusal_of, text_of
from capstan_gateway.streaming.logprobs import Logprobs, entries_of, written

Document = dict[str, Any]
Key = tuple[str, int]
CONTENT: Final[Key] = ("content", 0)
TEXT: Final[Key] = ("text", 0)
"""Of text completions."""
THOUGHTS: Final[Key] = ("reasoning", 0)
REFUSAL: Final[Key] = ("refusal", 0)
FUNCTION: Final[Key] = ("function_call", 0)
_CALL: Final = "tool_calls"
_SOURCES: Final = {
    "content": Source.TEXT, "text": Source.TEXT, "refusal": Source.TEXT, "reasoning": Source.REASONING,
    _CALL: Source.TOOL_ARGUMENTS, "function_call": Source.TOOL_ARGUMENTS,
    "function": Source.TOOL_ARGUMENTS, "finish_reason": Source.TEXT,
}  # fmt: skip
_HEAD: Final = ("id", "object", "created", "model", "system_fingerprint", "service_tier", "provider", "usage", NOTE)
_BESIDE: Final = ("stop_reason", "matched_stop", "native_finish_reason", "content_filter_results")
"""Fields of a choice that say why it has ended, and nothing of what was said."""
_TOLD_OF_ENDS: Final = ("native_finish_reason", "content_filter_results")
"""Those of them that an engine writes; the others are the client's own."""
_OF_CALLS: Final = ("id", "type", "extra_content")
"""Fields of a call beside its function; the last one holds a signature that the provider wants to see again."""


def source_of(key: Key) -> Source:
    """Say what a channel is."""
    return _SOURCES[key[0]]


def is_json(key: Key) -> bool:
    """Whether its text is the source of JSON."""
    return key[0] in (_CALL, FUNCTION[0])


def is_beside(key: Key) -> bool:
    """Whether it is what stands beside a text: the name of a call, why a choice has ended."""
    return key[0] in ("function", "finish_reason")


def head_of(chunk: Mapping[str, Any]) -> Document:
    """Give what of a chunk stands beside its choices and goes on."""
    return {name: chunk[name] for name in _HEAD if name in chunk}


def only_text_of(choice: Mapping[str, Any]) -> tuple[Key, str] | None:
    """Give the one text of a choice of a chunk in which nothing else is said, and nothing ends, as in nearly all; None
    of any other."""
    delta = choice.get("delta")
    if type(delta) is not dict or choice.get("finish_reason") or choice.get("logprobs") or "text" in choice:
        return None
    for name in _TOLD_OF_ENDS:
        if choice.get(name) is not None:
            return None
    key, said = CONTENT, delta.get("content")
    for name, value in delta.items():
        if value and name != "content" and (said or name not in TYPED):
            return None
    if not said:
        key, said = THOUGHTS, delta.get(OWN) or delta.get(READ)
    return (key, said) if type(said) is str and said else None


def pieces_of(choice: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """Give what is said in one choice of a chunk, in the order in which other dialects tell it."""
    if isinstance(text := choice.get("text"), str) and text:
        yield TEXT, text
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return
    for key, said in ((THOUGHTS, reasoning_of(delta)), (CONTENT, text_of(delta)), (REFUSAL, refusal_of(delta))):
        if said:
            yield key, said
    for number, call in _calls_of(delta):
        if arguments := _arguments_of(call):
            yield (_CALL, number), arguments
    if arguments := _text(delta.get("function_call"), "arguments"):
        yield FUNCTION, arguments


def _calls_of(delta: Mapping[str, Any]) -> Iterator[tuple[int, Document]]:
    calls = delta.get(_CALL)
    for position, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            index = call.get("index")
            yield (index if isinstance(index, int) else position), call


Steps = tuple[str | int, ...]


def beside(choice: Mapping[str, Any]) -> Iterator[tuple[Key, list[tuple[Steps, Any]]]]:
    """Give what stands beside the texts of a choice, by call, each value with its way: names, ids, signatures."""
    delta = choice.get("delta")
    if isinstance(delta, dict):
        calls = delta.get(_CALL)
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                way: Steps = ("delta", _CALL, position)
                said: list[tuple[Steps, Any]] = [
                    ((*way, name), call[name]) for name in _OF_CALLS if _is_told(call.get(name))
                ]
                if _is_told(_text(call.get("function"), "name")):
                    said.append(((*way, "function", "name"), call["function"]["name"]))
                if said:
                    yield ("function", position), said
        if _is_told(name := _text(delta.get("function_call"), "name")):
            yield ("function", -1), [(("delta", "function_call", "name"), name)]
    ends: list[tuple[Steps, Any]] = [((name,), choice[name]) for name in _TOLD_OF_ENDS if _is_told(choice.get(name))]
    if ends:
        yield ("finish_reason", 0), ends


def _is_told(value: Any) -> bool:
    return bool(value) and value not in WORDS if isinstance(value, str) else value is not None


def with_value(holder: Any, steps: Steps, value: Any) -> Any:
    """Give what holds a value with another one in its place."""
    if not steps:
        return value
    copied: Any = list(holder) if isinstance(holder, list) else dict(holder)
    copied[steps[0]] = with_value(holder[steps[0]], steps[1:], value)
    return copied


def _arguments_of(call: Mapping[str, Any]) -> str:
    return _text(call.get("function"), "arguments")


def _text(holder: Any, name: str) -> str:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, str) else ""


@dataclass(slots=True)
class ChoiceForm:
    """How the chunks of one choice are written: like those that came."""

    index: int
    _chat: bool = True
    _names: tuple[str, ...] = (READ,)
    """Under which thoughts stand."""
    _headers: dict[Key, Document] = field(default_factory=dict)
    """Of calls that have begun, and of which nothing has gone on: what says which call it is goes with that."""
    _logprobs: dict[str, Logprobs] = field(default_factory=dict)
    _tells_logprobs: bool = False

    @property
    def waiting(self) -> Sequence[Key]:
        """Calls of which nothing has gone on, not even their names."""
        return tuple(self._headers)

    def note(self, choice: Mapping[str, Any], at: Mapping[Key, int]) -> None:
        """Take what a choice of a chunk has beside its texts; `at` is how much of each text came before it."""
        delta = choice.get("delta")
        self._chat = "text" not in choice
        self._tells_logprobs = self._tells_logprobs or "logprobs" in choice
        if isinstance(delta, dict):
            names = tuple(name for name in REASONING if isinstance(delta.get(name), str) and delta[name])
            self._names = names or self._names
            for number, call in _calls_of(delta):
                self._note_call((_CALL, number), call, call.get("function"), {"index": number})
            if isinstance(delta.get("function_call"), dict):
                self._note_call(FUNCTION, {}, delta["function_call"], {})
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict):
            for key in (CONTENT, REFUSAL, TEXT):
                if entries := entries_of(logprobs, key[0]):
                    self._logprobs.setdefault(key[0], Logprobs()).add(entries, at.get(key, 0))

    def note_text(self, choice: Mapping[str, Any]) -> None:
        """Take what `note` takes of a choice in which only a text is said."""
        self._chat = True
        self._tells_logprobs = self._tells_logprobs or "logprobs" in choice
        delta = choice["delta"]
        if not delta.get("content"):
            self._names = tuple(name for name in REASONING if isinstance(delta.get(name), str) and delta[name])

    def with_names(self, choice: Document) -> Document:
        """Give a choice of a chunk with the names of its calls as far as they have come, and nothing of them has gone
        on: they may come in pieces, as clients put them together."""
        delta = choice.get("delta")
        if not self._headers or not isinstance(delta, dict):
            return choice
        calls = delta.get(_CALL)
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            index = call.get("index") if isinstance(call, dict) else None
            header = self._headers.get((_CALL, index if isinstance(index, int) else position), {})
            known, name = _text(header.get("function"), "name"), _text(call.get("function"), "name") if header else ""
            if known and name and name != known:
                choice = with_value(choice, ("delta", _CALL, position, "function", "name"), known + name)
        return choice

    def _note_call(self, key: Key, call: Mapping[str, Any], function: Any, head: Document) -> None:
        said = {name: call[name] for name in _OF_CALLS if call.get(name) is not None}
        name = function.get("name") if isinstance(function, dict) else None
        if said or name is not None:
            header = self._headers.setdefault(key, {**head, "function": {}})
            header.update(said)
            if name is not None:
                header["function"]["name"] = name

    def went_on(self, key: Key, parts: Sequence[Part]) -> None:
        """Note what of a text goes on, so that its log-probabilities may."""
        logprobs = self._logprobs.get(key[0])
        if logprobs is not None:
            for part in parts:
                logprobs.went_on(part.original, kept=part.kept)

    def chunk_of(
        self, texts: Mapping[Key, str], *, role: Any = None, ends: Mapping[str, Any] | None = None
    ) -> Document | None:
        """Write a choice with these texts; None when there is nothing in it.

        `role` is that of the delta that came; `ends` the choice that has ended, with its finish reason.
        """
        logprobs = written({name: found.due() for name, found in self._logprobs.items()})
        said: Document = {"delta": self._delta(texts, role)} if self._chat else {"text": texts.get(TEXT, "")}
        if not (texts or role is not None or ends is not None or logprobs):
            return None
        choice: Document = {"index": self.index, **said}
        if self._tells_logprobs:
            choice["logprobs"] = logprobs
        beside = {name: ends[name] for name in _BESIDE if name in ends} if ends is not None else {}
        return {**choice, "finish_reason": ends.get("finish_reason") if ends is not None else None, **beside}

    def _delta(self, texts: Mapping[Key, str], role: Any) -> Document:
        delta: Document = {} if role is None else {"role": role}
        if role is not None and not texts:
            delta["content"] = ""
        calls: list[Document] = []
        for key, text in sorted(texts.items()):
            if key == THOUGHTS:
                delta |= dict.fromkeys(self._names, text)
            elif key[0] == _CALL:
                calls.append(self._call(key, text))
            elif key == FUNCTION:
                delta["function_call"] = self._call(key, text)["function"]
            else:
                delta[key[0]] = text
        return {**delta, _CALL: calls} if calls else delta

    def _call(self, key: Key, text: str) -> Document:
        header = self._headers.pop(key, None) or {"index": key[1], "function": {}}
        return {**header, "function": {**header["function"], "arguments": text}}
