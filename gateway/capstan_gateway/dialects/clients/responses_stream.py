"""Chat completion chunks as events of OpenAI's Responses API.

    response.created, response.in_progress, (one item after the other)...,
    response.completed | response.incomplete | response.failed

Every event has the next `sequence_number`. What an item came to is in its `done` event, and all items are in the last.
"""

from typing import Final

from capstan_gateway.dialects.clients.chat_events import ChatEvents, Kind
from capstan_gateway.dialects.clients.responses_answer import (
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
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.frames import event
from capstan_gateway.errors import GatewayError

_PREFIXES: Final = {Kind.REASONING: "rs", Kind.TEXT: "msg", Kind.CALL: "fc"}
"""Of the ids of items."""
_PARTS: Final = {Kind.REASONING: "reasoning_text", Kind.TEXT: "output_text"}
_ARGUMENTS: Final = "response.function_call_arguments"


class ResponseEvents(ChatEvents):
    """One stream for a client of `/v1/responses`."""

    def __init__(self, request: Document) -> None:
        super().__init__()
        self._request = request
        self._head: Document = {}
        self._number = ""
        self._sequence = -1
        self._pieces: list[str] = []
        """Of the open item."""
        self._named: tuple[object, str] = (None, "")
        """Id and name of the open call."""
        self._output: list[Document] = []

    def _stream_begins(self, chunk: Document) -> bytes:
        self._number = number_of(chunk)
        self._head = response_head(chunk, self._request)
        return self._event("response.created", response=self._head) + self._event(
            "response.in_progress", response=self._head
        )

    def _stream_ends(self) -> bytes:
        ended = {**self._head, **outcome(self._finish), "output": self._output, "usage": write_usage(self._usage)}
        return self._event(f"response.{ended['status']}", response=ended)

    def _stream_fails(self, error: GatewayError) -> bytes:
        events = self._start({})
        return events + self._event("response.failed", response={**self._head, **failed(error), "output": self._output})

    def _text_begins(self, kind: Kind) -> bytes:
        self._pieces = []
        part = text_part("") if kind is Kind.TEXT else {"type": _PARTS[kind], "text": ""}
        events = self._item_added({**self._item(kind, IN_PROGRESS), "content": [], "status": IN_PROGRESS})
        return events + self._event("response.content_part.added", **self._where(kind), content_index=0, part=part)

    def _call_begins(self, call_id: object, name: str) -> bytes:
        self._pieces, self._named = [], (call_id or f"call_{self._call}", name)
        return self._item_added(self._item(Kind.CALL, IN_PROGRESS))

    def _item_added(self, item: Document) -> bytes:
        return self._event("response.output_item.added", output_index=len(self._output), item=item)

    def _piece(self, kind: Kind, text: str) -> bytes:
        self._pieces.append(text)
        where = self._where(kind)
        if kind is Kind.CALL:
            return self._event(f"{_ARGUMENTS}.delta", **where, delta=text)
        return self._event(f"response.{_PARTS[kind]}.delta", **where, content_index=0, delta=text, **_extra(kind))

    def _part_ends(self, kind: Kind) -> bytes:
        item, where, text = self._item(kind, status_of(self._finish)), self._where(kind), "".join(self._pieces)
        if kind is Kind.CALL:
            events = self._event(f"{_ARGUMENTS}.done", **where, name=self._named[1], arguments=text)
        else:
            part = item["content"][0]
            events = self._event(f"response.{_PARTS[kind]}.done", **where, content_index=0, text=text, **_extra(kind))
            events += self._event("response.content_part.done", **where, content_index=0, part=part)
        events += self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        return events

    def _item(self, kind: Kind, status: str) -> Document:
        """The open item as it is now."""
        index, text = len(self._output), "".join(self._pieces)
        if kind is Kind.CALL:
            return call_item(self._number, index, *self._named, text, status)
        if kind is Kind.TEXT:
            return message_item(self._number, index, text, status)
        return reasoning_item(self._number, index, text)

    def _where(self, kind: Kind) -> Document:
        index = len(self._output)
        return {"item_id": f"{_PREFIXES[kind]}_{self._number}_{index}", "output_index": index}

    def _event(self, kind: str, **fields: object) -> bytes:
        self._sequence += 1
        return event({"type": kind, "sequence_number": self._sequence, **fields})


def _extra(kind: Kind) -> Document:
    return {"logprobs": []} if kind is Kind.TEXT else {}
