"""Chat completion chunks as events of OpenAI's Responses API.

    response.created, response.in_progress, (one item after the other)...,
    response.completed | response.incomplete | response.failed

Every event has the next `sequence_number`. What an item came to is in its `done` event, and all items are in the last.
"""

from typing import Final

from capstan_gateway.dialects.chat import calls_of, first_deltas, function_of, reasoning_of, text_of
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.messages_stream import event
from capstan_gateway.dialects.responses_answer import (
    IN_PROGRESS,
    call_item,
    failed,
    message_item,
    number_of,
    outcome,
    reasoning_item,
    response_head,
    status_of,
    text_part,
    write_usage,
)
from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.relay import StreamBroken

_REASONING: Final = "reasoning"
_TEXT: Final = "message"
_CALL: Final = "function_call"


class ResponseEvents:
    """One stream; `port.Presenter`."""

    def __init__(self, request: Document) -> None:
        self._request = request
        self._head: Document = {}
        self._number = ""
        self._sequence = -1
        self._over = False
        self._open = ""
        """Type of the open item."""
        self._pieces: list[str] = []
        """Of the open item."""
        self._named: tuple[object, str] = (None, "")
        """Id and name of the open call."""
        self._call = -1
        """Chat's index of the newest call."""
        self._output: list[Document] = []
        self._finish: object = None
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
                events += self._say(_REASONING, "reasoning_text", reasoning)
            if text := text_of(delta):
                events += self._say(_TEXT, "output_text", text)
            for call in calls_of(delta):
                events += self._call_piece(call)
            self._finish = choice.get("finish_reason") or self._finish
        return events

    def end(self) -> bytes:
        """Give the last events; nothing after a failure."""
        if self._over:
            return b""
        events = self._start({}) + self._close()
        self._over = True
        ended = {**self._head, **outcome(self._finish), "output": self._output, "usage": write_usage(self._usage)}
        return events + self._event(f"response.{ended['status']}", response=ended)

    def failure(self, error: GatewayError) -> bytes:
        """Give the event of a stream that cannot go on."""
        if self._over:
            return b""
        events = self._start({})
        self._over = True
        return events + self._event("response.failed", response={**self._head, **failed(error), "output": self._output})

    def _start(self, chunk: Document) -> bytes:
        if self._head:
            return b""
        self._number = number_of(chunk)
        self._head = response_head(chunk, self._request)
        return self._event("response.created", response=self._head) + self._event(
            "response.in_progress", response=self._head
        )

    def _say(self, kind: str, part: str, text: str) -> bytes:
        events = self._begin_text(kind, part) if self._open != kind else b""
        self._pieces.append(text)
        extra: Document = {"logprobs": []} if kind == _TEXT else {}
        return events + self._event(f"response.{part}.delta", **self._where(), content_index=0, delta=text, **extra)

    def _begin_text(self, kind: str, part: str) -> bytes:
        events = self._close()
        self._open, self._pieces = kind, []
        item = {**self._item(IN_PROGRESS), "content": [], "status": IN_PROGRESS}
        events += self._event("response.output_item.added", output_index=len(self._output), item=item)
        empty = text_part("") if kind == _TEXT else {"type": part, "text": ""}
        return events + self._event("response.content_part.added", **self._where(), content_index=0, part=empty)

    def _call_piece(self, call: Document) -> bytes:
        events = b""
        number = call.get("index", self._call if self._open == _CALL else self._call + 1)
        name, arguments = function_of(call)
        if number > self._call:
            events = self._close()
            self._call = number
            self._open, self._pieces, self._named = _CALL, [], (call.get("id") or f"call_{number}", name)
            item = self._item(IN_PROGRESS)
            events += self._event("response.output_item.added", output_index=len(self._output), item=item)
        elif number != self._call or self._open != _CALL:
            raise StreamBroken("the model's answer came back to a tool call that it had finished")
        if arguments:
            self._pieces.append(arguments)
            events += self._event("response.function_call_arguments.delta", **self._where(), delta=arguments)
        return events

    def _close(self) -> bytes:
        if not self._open:
            return b""
        item, where, text = self._item(status_of(self._finish)), self._where(), "".join(self._pieces)
        if self._open == _CALL:
            done = {"name": self._named[1], "arguments": text}
            events = self._event("response.function_call_arguments.done", **where, **done)
        else:
            part = item["content"][0]
            extra: Document = {"logprobs": []} if self._open == _TEXT else {}
            events = self._event(f"response.{part['type']}.done", **where, content_index=0, text=text, **extra)
            events += self._event("response.content_part.done", **where, content_index=0, part=part)
        events += self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._open = ""
        return events

    def _item(self, status: str) -> Document:
        """Give the open item as it is now."""
        index, text = len(self._output), "".join(self._pieces)
        if self._open == _CALL:
            return call_item(self._number, index, *self._named, text, status)
        if self._open == _TEXT:
            return message_item(self._number, index, text, status)
        return reasoning_item(self._number, index, text)

    def _where(self) -> Document:
        prefix = {_REASONING: "rs", _TEXT: "msg", _CALL: "fc"}[self._open]
        return {"item_id": f"{prefix}_{self._number}_{len(self._output)}", "output_index": len(self._output)}

    def _event(self, kind: str, **fields: object) -> bytes:
        self._sequence += 1
        return event({"type": kind, "sequence_number": self._sequence, **fields})
