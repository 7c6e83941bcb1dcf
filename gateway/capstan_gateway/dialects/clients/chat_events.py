"""Chat completion chunks on their way into another dialect: the walk through them, whose events are in subclasses.

A chat stream is a stream of pieces. In the other dialects pieces belong to a part (Anthropic's blocks, the items of
OpenAI's Responses API), and parts follow each other: one is open at a time, and a piece of another kind closes it.
"""

from abc import ABC, abstractmethod
from enum import Enum

from capstan_gateway.dialects.chat import calls_of, first_deltas, function_of, reasoning_of, text_of
from capstan_gateway.dialects.fields import Document
from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.errors import StreamBroken


class Kind(Enum):
    """Kinds of parts."""

    REASONING = "reasoning"
    TEXT = "text"
    CALL = "call"


class ChatEvents(ABC):
    """One stream; `port.Presenter`."""

    def __init__(self) -> None:
        self._started = False
        self._over = False
        self._open: Kind | None = None
        """Kind of the open part."""
        self._call = -1
        """Chat's index of the newest tool call."""
        self._finish: object = None
        self._matched: object = None
        """What vLLM tells beside the finish reason."""
        self._usage: Document = {}
        """The chunk's `usage`, as it is in a whole answer."""

    def chunk(self, chunk: Document) -> bytes:
        """The events of one chunk."""
        if self._over:
            return b""
        events = self._start(chunk)
        if chunk.get("usage") is not None:
            self._usage = {"usage": chunk["usage"]}
        for choice, delta in first_deltas(chunk):
            if reasoning := reasoning_of(delta):
                events += self._text_piece(Kind.REASONING, reasoning)
            if text := text_of(delta):
                events += self._text_piece(Kind.TEXT, text)
            for call in calls_of(delta):
                events += self._call_piece(call)
            if choice.get("finish_reason"):
                self._finish, self._matched = choice["finish_reason"], choice.get("stop_reason")
        return events

    def end(self) -> bytes:
        """The last events; nothing after a failure."""
        if self._over:
            return b""
        events = self._start({}) + self._close()
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
        return self._stream_begins(chunk)

    def _text_piece(self, kind: Kind, text: str) -> bytes:
        events = b""
        if self._open is not kind:
            events = self._close()
            self._open = kind
            events += self._text_begins(kind)
        return events + self._piece(kind, text)

    def _call_piece(self, call: Document) -> bytes:
        events = b""
        number = call.get("index")
        if number is None:
            number = self._call if self._open is Kind.CALL else self._call + 1
        name, arguments = function_of(call)
        if number > self._call:
            events = self._close()
            self._open, self._call = Kind.CALL, number
            events += self._call_begins(call.get("id"), name)
        elif number != self._call or self._open is not Kind.CALL:
            raise StreamBroken("the model's answer came back to a tool call that it had finished")
        return events + self._piece(Kind.CALL, arguments) if arguments else events

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        events = self._part_ends(self._open)
        self._open = None
        return events

    @abstractmethod
    def _stream_begins(self, chunk: Document) -> bytes:
        """The first events; the chunk is empty where a stream ends before it began."""

    @abstractmethod
    def _stream_ends(self) -> bytes:
        """The last events. No part is open."""

    @abstractmethod
    def _stream_fails(self, error: GatewayError) -> bytes:
        """The last events of a stream that cannot go on, begun or not."""

    @abstractmethod
    def _text_begins(self, kind: Kind) -> bytes:
        """The events that open a part of text or reasoning."""

    @abstractmethod
    def _call_begins(self, call_id: object, name: str) -> bytes:
        """The events that open a tool call, number `self._call`. Not every engine gives it an id."""

    @abstractmethod
    def _piece(self, kind: Kind, text: str) -> bytes:
        """The events of a piece of the open part: text, or a call's arguments."""

    @abstractmethod
    def _part_ends(self, kind: Kind) -> bytes:
        """The events that close the open part."""
