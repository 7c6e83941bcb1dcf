"""Chat completion chunks as Anthropic's events.

    message_start, ping, (content_block_start, content_block_delta..., content_block_stop)...,
    message_delta, message_stop

Blocks follow each other: one is open at a time, and a piece of another kind closes it.
"""

from typing import Final

import orjson

from capstan_gateway.dialects.chat import calls_of, first_deltas, function_of, reasoning_of, text_of
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.messages_answer import error_document, message_head, stop, write_usage
from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.relay import StreamBroken

_TEXT: Final = "text"
_THINKING: Final = "thinking"
_TOOL: Final = "tool_use"


class MessageEvents:
    """One stream; `port.Presenter`."""

    def __init__(self) -> None:
        self._started = False
        self._over = False
        self._open = ""
        """Kind of the open block."""
        self._index = -1
        """Of the newest block."""
        self._call = -1
        """Chat's index of the newest tool call."""
        self._finish: object = None
        self._matched: object = None
        self._usage: Document = {}

    def chunk(self, chunk: Document) -> bytes:
        """Give the events of one chunk."""
        if self._over:
            return b""
        events = self._start(chunk)
        if chunk.get("usage") is not None:
            self._usage = {"usage": chunk["usage"]}
        for choice, delta in first_deltas(chunk):
            if reasoning := reasoning_of(delta):
                events += self._say(_THINKING, "thinking_delta", reasoning)
            if text := text_of(delta):
                events += self._say(_TEXT, "text_delta", text)
            for call in calls_of(delta):
                events += self._call_piece(call)
            if choice.get("finish_reason"):
                self._finish, self._matched = choice["finish_reason"], choice.get("stop_reason")
        return events

    def end(self) -> bytes:
        """Give the last events; nothing after a failure."""
        if self._over:
            return b""
        events = self._start({}) + self._close()
        self._over = True
        delta = stop(self._finish, self._matched, called=self._call >= 0)
        events += event({"type": "message_delta", "delta": delta, "usage": write_usage(self._usage)})
        return events + event({"type": "message_stop"})

    def failure(self, error: GatewayError) -> bytes:
        """Give the event of a stream that cannot go on."""
        if self._over:
            return b""
        self._over = True
        return event(error_document(error))

    def _start(self, chunk: Document) -> bytes:
        if self._started:
            return b""
        self._started = True
        # NB: engines count the prompt at the end of their streams; the numbers come with message_delta.
        message = {
            **message_head(chunk), "content": [], "stop_reason": None, "stop_sequence": None, "usage": write_usage({}),
        }  # fmt: skip
        return event({"type": "message_start", "message": message}) + event({"type": "ping"})

    def _say(self, kind: str, delta: str, text: str) -> bytes:
        events = b""
        if self._open != kind:
            empty: Document = {"type": kind, kind: ""}
            events = self._begin(kind, {**empty, "signature": ""} if kind == _THINKING else empty)
        return events + self._delta({"type": delta, kind: text})

    def _call_piece(self, call: Document) -> bytes:
        events = b""
        number = call.get("index", self._call if self._open == _TOOL else self._call + 1)
        name, arguments = function_of(call)
        if number > self._call:
            self._call = number
            block = {"type": _TOOL, "id": str(call.get("id") or f"toolu_{number}"), "name": name, "input": {}}
            events = self._begin(_TOOL, block)
        elif number != self._call or self._open != _TOOL:
            raise StreamBroken("the model's answer came back to a tool call that it had finished")
        if arguments:
            events += self._delta({"type": "input_json_delta", "partial_json": arguments})
        return events

    def _begin(self, kind: str, block: Document) -> bytes:
        closing = self._close()
        self._open = kind
        self._index += 1
        return closing + event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _delta(self, delta: Document) -> bytes:
        return event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return event({"type": "content_block_stop", "index": self._index})


def event(payload: Document) -> bytes:
    """Write one event; its name is its type."""
    return b"event: %b\ndata: %b\n\n" % (str(payload["type"]).encode(), orjson.dumps(payload))
