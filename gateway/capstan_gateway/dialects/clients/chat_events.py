"""Chat completion chunks on their way into another dialect: the walk through them, whose events are in subclasses.

A chat stream is a stream of pieces. In the other dialects pieces belong to a part (Anthropic's blocks, the items of
OpenAI's Responses API), and parts follow each other: one is open at a time, and a piece of another kind closes it. A
tool call is closed only when its JSON is complete, since engines put white space, thoughts and other calls between its
pieces: what comes meanwhile waits, and follows it. What a stream of calls looks like was made one form before, in
`streaming.tool_calls`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from sys import getsizeof
from typing import Final

from capstan_gateway.dialects.chat import calls_of, first_deltas, named_arguments
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.signatures import signature_of
from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.call_parts import ObjectEnd, make_call_id
from capstan_gateway.streaming.cut import NOTE
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.forms import reasoning_of, refusal_of, text_of
from capstan_gateway.tokens.prompt import prompt_tokens
from capstan_gateway.tokens.usage import parse_usage

MAX_HELD: Final = 4 * 1024 * 1024
"""Bytes that may wait for the end of a call that is open."""


class Kind(Enum):
    """Kinds of parts."""

    REASONING = "reasoning"
    TEXT = "text"
    REFUSAL = "refusal"
    CALL = "call"


@dataclass(slots=True)
class _CallPart:
    """A tool call on its way."""

    number: int
    id: str = ""
    name: str = ""
    signature: str = ""
    """What the engine wants to see again with the call."""
    waiting: list[str] = field(default_factory=list)
    """Arguments that were not written yet."""
    needs_whole: bool = False
    """Whether its arguments are written only when they are all there."""
    begun: bool = False
    over: bool = False
    end: ObjectEnd = field(default_factory=ObjectEnd)


class ChatEvents(ABC):
    """One stream; `port.Presenter`."""

    _objects_only = False
    """Whether arguments that are no object are written only when they are all there, by `_whole_arguments`."""

    def __init__(self, request: Document | None = None) -> None:
        self._request = request or {}
        """The client's own."""
        self._started = False
        self._over = False
        self._open: Kind | None = None
        """Kind of the open part."""
        self._call = -1
        """Number of the newest tool call that has begun."""
        self._calls: dict[int, _CallPart] = {}
        """By their index."""
        self._waiting: list[_CallPart] = []
        """Those that are not over, in the order in which they came."""
        self._later: list[tuple[Kind, str]] = []
        """Text that came while a call was open."""
        self._held = 0
        """Bytes that wait."""
        self._finish: object = None
        self._matched: object = None
        """What vLLM tells beside the finish reason."""
        self._note: Document = {}
        """What is said of an end that its engine has not made, under its name."""
        self._usage: Document = {}
        """The chunk's `usage`, as it is in a whole answer."""

    @property
    def held(self) -> int:
        """How many bytes of the answer are kept."""
        return self._held

    def estimated(self, output_tokens: int) -> None:
        """Take the place of what an engine has not counted: so many tokens were written."""
        if parse_usage(self._usage.get("usage")) is None:
            counts = {"prompt_tokens": prompt_tokens(self._request), "completion_tokens": output_tokens}
            self._usage = {"usage": counts}

    def chunk(self, chunk: Document) -> bytes:
        """The events of one chunk."""
        if self._over:
            return b""
        if chunk.get("usage") is not None:
            self._usage = {"usage": chunk["usage"]}
        if NOTE in chunk:
            self._note = {NOTE: chunk[NOTE]}
        deltas = first_deltas(chunk)
        # Of a chunk without a choice, such as Azure's first one, neither id nor model need be true.
        events = self._start(chunk) if deltas else b""
        for choice, delta in deltas:
            events += self._delta(delta)
            if choice.get("finish_reason"):
                self._finish, self._matched = choice["finish_reason"], choice.get("stop_reason")
        return events

    def _delta(self, delta: Document) -> bytes:
        events = b""
        if reasoning := reasoning_of(delta):
            events += self._text_piece(Kind.REASONING, reasoning)
        if text := text_of(delta):
            events += self._text_piece(Kind.TEXT, text)
        if refusal := refusal_of(delta):
            events += self._text_piece(Kind.REFUSAL, refusal)
        for call in calls_of(delta):
            events += self._call_piece(call)
        return events

    def end(self) -> bytes:
        """The last events; nothing after a failure."""
        if self._over:
            return b""
        events = self._start({})
        events += self._calls_end(list(self._waiting)) + self._close()
        self._over = True
        return events + self._stream_ends()

    def failure(self, error: GatewayError) -> bytes:
        """The events of a stream that cannot go on."""
        if self._over:
            return b""
        self._over = True
        return self._stream_fails(error)

    def _start(self, chunk: Document) -> bytes:
        if self._started:
            return b""
        self._started = True
        return self._stream_begins({**chunk, "model": chunk.get("model") or self._request.get("model")})

    def _text_piece(self, kind: Kind, text: str) -> bytes:
        calls = self._waiting
        if calls and (not text.strip() or any(not call.end.complete for call in calls)):
            self._hold(text)
            self._later.append((kind, text))
            return b""
        return self._calls_end(list(calls)) + self._write_text(kind, text)

    def _write_text(self, kind: Kind, text: str) -> bytes:
        events = b""
        if self._open is not kind:
            events = self._close()
            self._open = kind
            events += self._text_begins(kind)
        return events + self._piece(kind, text)

    def _call_piece(self, piece: Document) -> bytes:
        index, (name, arguments) = piece.get("index"), named_arguments(piece)
        if index is None:
            index = next(reversed(self._calls), 0)
        part = self._calls.get(index)
        if part is None:
            part = self._calls[index] = _CallPart(len(self._calls))
            self._waiting.append(part)
        if part.over:
            if arguments.strip():
                raise StreamBroken("the model's answer came back to a tool call that it had finished")
            return b""
        if not part.begun:
            part.id, part.name = part.id or str(piece.get("id") or ""), part.name + name
            part.signature = part.signature or signature_of(piece)
        if arguments:
            if not (part.begun or part.waiting):
                part.needs_whole = self._objects_only and not arguments.lstrip().startswith("{")
            part.end.feed(arguments)
            part.waiting.append(arguments)
            self._hold(arguments)
        return self._calls_go_on()

    def _hold(self, text: str) -> None:
        self._held += getsizeof(text)
        if self._held > MAX_HELD:
            raise StreamBroken("the model's answer held a tool call that did not end")

    def _calls_go_on(self) -> bytes:
        """Write what may be written now: the pieces of the first call that is not complete, and those before it."""
        events = b""
        while self._waiting:
            call = self._waiting[0]
            if not call.begun and not (call.waiting and call.name):
                break
            over = len(self._waiting) > 1 and call.end.complete
            events += self._write_call(call, over=over)
            if not over:
                break
            events += self._finish_call(call)
        return events

    def _write_call(self, call: _CallPart, *, over: bool) -> bytes:
        events = b""
        if not call.begun:
            events = self._flush_later() + self._close()
            if call.signature:
                events += self._signature(call.signature)
            call.begun, self._open, self._call = True, Kind.CALL, call.number
            events += self._call_begins(call.id or make_call_id(), call.name)
        if call.waiting and (over or not call.needs_whole):
            self._held -= sum(map(getsizeof, call.waiting))
            waited, call.waiting = "".join(call.waiting), []
            events += self._piece(Kind.CALL, self._whole_arguments(waited) if call.needs_whole else waited)
        return events

    def _finish_call(self, call: _CallPart) -> bytes:
        call.over = True
        self._waiting.remove(call)
        return self._close()

    def _calls_end(self, calls: list[_CallPart]) -> bytes:
        """Write all that there is of these calls, and what has waited for their end."""
        events = b""
        for call in calls:
            if not call.name:
                raise StreamBroken("the model called a tool without a name")
            if not call.begun and not call.waiting:
                call.waiting = ["{}"]
                self._held += getsizeof("{}")
            events += self._write_call(call, over=True) + self._finish_call(call)
        return events + self._flush_later()

    def _flush_later(self) -> bytes:
        """Write the text that has waited; white space between calls is nobody's text."""
        if any(call.begun for call in self._waiting):
            return b""
        later, self._later = self._later, []
        self._held -= sum(getsizeof(text) for _, text in later)
        if not "".join(text for _, text in later).strip():
            return b""
        return b"".join(self._write_text(kind, text) for kind, text in later)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        events = self._part_ends(self._open)
        self._open = None
        return events

    def _whole_arguments(self, arguments: str) -> str:
        """Such arguments in the form that the client understands."""
        return arguments

    @abstractmethod
    def _stream_begins(self, chunk: Document) -> bytes:
        """The first events; of the chunk only the model is there where a stream ends before it began."""

    @abstractmethod
    def _stream_ends(self) -> bytes:
        """The last events. No part is open."""

    @abstractmethod
    def _stream_fails(self, error: GatewayError) -> bytes:
        """The last events of a stream that cannot go on, begun or not."""

    @abstractmethod
    def _text_begins(self, kind: Kind) -> bytes:
        """The events that open a part of text, reasoning or refusal."""

    @abstractmethod
    def _signature(self, signature: str) -> bytes:
        """The events that tell the signature of the call that begins next. No part is open."""

    @abstractmethod
    def _call_begins(self, call_id: str, name: str) -> bytes:
        """The events that open a tool call, number `self._call`."""

    @abstractmethod
    def _piece(self, kind: Kind, text: str) -> bytes:
        """The events of a piece of the open part: text, or a call's arguments."""

    @abstractmethod
    def _part_ends(self, kind: Kind) -> bytes:
        """The events that close the open part."""
