"""Frames of a stream, one after the other: what all relays do that read events."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import orjson

from capstan_gateway.dialects.fields import Document
from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.cut import Cut
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.sse import FrameSplitter, FrameTooLarge, data_frame, frame_data
from capstan_gateway.tokens.estimate import TextCount
from capstan_gateway.tokens.usage import Usage


class EventRelay(ABC):
    """One stream of events that have a `type`; `streaming.port.Relay`. Subclasses know the events."""

    def __init__(self) -> None:
        self._splitter = FrameSplitter()
        self.usage: Usage | None = None
        self.counted = False
        self.events = 0
        self.begun = False
        self.text = TextCount()
        self.finished = False
        self.error: GatewayError | None = None
        self.done = False

    @property
    def kept(self) -> int:
        """How many bytes of a frame that is not whole are kept."""
        return self._splitter.kept

    def feed(self, data: bytes) -> bytes:
        """The bytes to send; raises StreamBroken when the stream makes no sense."""
        try:
            run = self._splitter.feed(data)
        except FrameTooLarge as error:
            raise StreamBroken("the model's answer held an event that is too large") from error
        return each_frame(run, self._frame)

    def finish(self) -> bytes:
        """What remains to be sent when the body is over; raises StreamBroken if that was too early."""
        rest = self._splitter.rest().strip(b"\n")
        tail = self.feed(rest + b"\n\n") if rest else b""
        if not self.done:
            raise ended_early(tail)
        return tail

    @abstractmethod
    def cut(self, cut: Cut, last: bytes) -> bytes:
        """The frames that end a stream well before its engine does."""

    @abstractmethod
    def failure(self, error: GatewayError) -> bytes:
        """The frames that end a stream which cannot go on."""

    def _note(self, text: object) -> None:
        """Count an event with a piece of the answer; TypeError when it is no text."""
        if text is not None:
            if type(text) is not str:
                raise TypeError("a piece of an answer is a string")
            self.text.add(text)
            self.text.pieces += bool(text)
        self.events += 1
        self.begun = True

    def _frame(self, frame: bytes) -> bytes:
        if not frame or self.done:
            return b""
        data = frame_data(frame)
        if data is None:
            return self._other(frame)
        try:
            payload = orjson.loads(data)
            written = self._event(payload["type"], payload)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StreamBroken("the model's answer held an event that is not one") from error
        return self._other(frame) if written is None else written

    @abstractmethod
    def _event(self, kind: str, payload: dict[str, Any]) -> bytes | None:
        """Note what an event says; give what to send in its place, None to treat it like any other frame."""

    @abstractmethod
    def _other(self, frame: bytes) -> bytes:
        """What to send for any other frame: a comment, a ping, what is new since this was written."""


def each_frame(run: bytes, write: Callable[[bytes], bytes]) -> bytes:
    """Write each frame of a run; what was written in front of a break is told in the StreamBroken."""
    kept: list[bytes] = []
    try:
        for frame in run.split(b"\n\n"):
            kept.append(write(frame.strip(b"\n")))
    except StreamBroken as broken:
        broken.before = b"".join(kept)
        raise
    return b"".join(kept)


def ended_early(before: bytes) -> StreamBroken:
    """The error of a stream that ended before its end, behind these bytes."""
    broken = StreamBroken("the model's answer ended before it was finished")
    broken.before = before
    return broken


def event(payload: Document) -> bytes:
    """Write one event; its name is its type."""
    return b"event: %b\n%b" % (str(payload["type"]).encode(), data_frame(payload))
