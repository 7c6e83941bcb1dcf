"""Chat completion chunks as events of OpenAI's Responses API.

    response.created, response.in_progress, (one item after the other)...,
    response.completed | response.incomplete | response.failed, [DONE]

Every event has the next `sequence_number`. What an item came to is in its `done` event, and all items are in the last.
"""

import time
from collections.abc import Callable
from sys import getsizeof
from typing import Final

import orjson

from capstan_gateway.dialects.chat import first_deltas, with_id
from capstan_gateway.dialects.clients.chat_events import ChatEvents, Kind
from capstan_gateway.dialects.clients.responses_answer import (
    IN_PROGRESS,
    failed,
    number_of,
    outcome,
    response_head,
    status_of,
    write_usage,
)
from capstan_gateway.dialects.clients.responses_arguments import InputText
from capstan_gateway.dialects.clients.responses_items import (
    annotations_of,
    call_item,
    is_written_at_once,
    logprobs_of,
    message_item,
    reasoning_item,
    refusal_part,
    signature_item,
    text_part,
)
from capstan_gateway.dialects.clients.responses_tools import Tool, ToolKind, Tools
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.frames import event
from capstan_gateway.documents import to_json
from capstan_gateway.errors import GatewayError

_PREFIXES: Final = {Kind.REASONING: "rs", Kind.TEXT: "msg", Kind.REFUSAL: "msg", Kind.CALL: "fc"}
"""Of the ids of items."""
_PARTS: Final = {Kind.REASONING: "reasoning_text", Kind.TEXT: "output_text", Kind.REFUSAL: "refusal"}
_ARGUMENTS: Final = "response.function_call_arguments"
_INPUT: Final = "response.custom_tool_call_input"
_DONE: Final = b"data: [DONE]\n\n"
"""The end of a stream, by the Open Responses specification."""


class ResponseEvents(ChatEvents):
    """One stream for a client of `/v1/responses`."""

    def __init__(
        self,
        request: Document,
        clock: Callable[[], float] = time.time,
        *,
        tools: Tools | None = None,
        kept: str = "",
        keep: Callable[[Document], bool] = lambda _: False,
    ) -> None:
        super().__init__(request)
        self._clock = clock
        self._kept = kept
        """What the id of a response that is kept is made of; empty where it is not to be."""
        self._keep = keep
        """Takes the whole response; False when it is not kept after all."""
        self._head: Document = {}
        self._number = ""
        self._sequence = -1
        self._pieces: list[str] = []
        """Of the open item."""
        self._named: tuple[object, str] = (None, "")
        """Id and name of the open call."""
        self._tools: dict[str, Tool] | None = None if tools is None else tools.by_chat_name
        """By the names that the model calls; where nobody has read them yet, read when it first calls one."""
        self._tool: Tool | None = None
        """What the open call calls, of a kind that needs to be known."""
        self._input: InputText | None = None
        """Reads the open call's arguments, where the tool takes plain text."""
        self._logprobs: list[Document] = []
        """Of the open text."""
        self._fresh: list[Document] = []
        """Those that no event has told yet."""
        self._cited: list[Document] = []
        """Sources of the open text, or of the next one."""
        self._told = 0
        """How many of them events have told."""
        self._output: list[Document] = []
        self._stored = 0
        """Bytes of the text in it, and in the open item."""

    @property
    def held(self) -> int:
        """How many bytes of the answer are kept: the last event tells all of it once more."""
        return super().held + self._stored

    def chunk(self, chunk: Document) -> bytes:
        """The events of one chunk."""
        for choice, delta in first_deltas(chunk):
            if choice.get("logprobs") is not None:
                self._fresh += logprobs_of(choice)
            if delta.get("annotations"):
                self._cited += annotations_of(delta)
        events = super().chunk(chunk)
        if self._open is Kind.TEXT and len(self._cited) > self._told:
            events += self._sources()
        return events

    def _sources(self) -> bytes:
        """The events of what the open text cites."""
        fresh = range(self._told, len(self._cited))
        self._told = len(self._cited)
        where = {**self._where(Kind.TEXT), "content_index": 0}
        kind = "response.output_text.annotation.added"
        told = [self._event(kind, **where, annotation_index=at, annotation=self._cited[at]) for at in fresh]
        return b"".join(told)

    def _stream_begins(self, chunk: Document) -> bytes:
        chunk = {**chunk, "id": self._kept} if self._kept else with_id(chunk)
        self._number = number_of(chunk)
        head = response_head(chunk, self._request, now=self._now(), stored=bool(self._kept))
        # Three events repeat the tools of the request, which may be thousands: they are written once.
        self._head = {**head, "tools": orjson.Fragment(to_json(head["tools"]))}
        return self._event("response.created", response=self._head) + self._event(
            "response.in_progress", response=self._head
        )

    def _stream_ends(self) -> bytes:
        ended = {**self._head, **outcome(self._finish, self._head, now=self._now())}
        ended |= {"output": self._output, "usage": write_usage(self._usage), **self._note}
        if self._kept and not self._keep(ended):
            ended["store"] = False
        return self._event(f"response.{ended['status']}", response=ended) + _DONE

    def _stream_fails(self, error: GatewayError) -> bytes:
        events = self._start({})
        ended = {**self._head, **failed(error), "output": self._output, "store": False}
        return events + self._event("response.failed", response=ended) + _DONE

    def _text_begins(self, kind: Kind) -> bytes:
        self._pieces, self._logprobs = [], []
        part = self._part(kind, "") if kind is not Kind.TEXT else text_part("")
        events = self._item_added({**self._item(kind, IN_PROGRESS), "content": [], "status": IN_PROGRESS})
        return events + self._event("response.content_part.added", **self._where(kind), content_index=0, part=part)

    def _part(self, kind: Kind, text: str) -> Document:
        if kind is Kind.REASONING:
            return {"type": _PARTS[kind], "text": text}
        return text_part(text, self._logprobs, self._cited) if kind is Kind.TEXT else refusal_part(text)

    def _signature(self, signature: str) -> bytes:
        item = signature_item(self._number, len(self._output), signature)
        events = self._item_added({**item, "status": IN_PROGRESS})
        events += self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._stored += getsizeof(signature)
        return events

    def _call_begins(self, call_id: str, name: str) -> bytes:
        self._pieces, self._named = [], (call_id, name)
        if self._tools is None:
            self._tools = Tools.of(self._request).by_chat_name
        self._tool = self._tools.get(name)
        custom = self._tool is not None and self._tool.kind is ToolKind.CUSTOM
        self._input = InputText() if custom else None
        return b"" if is_written_at_once(self._tool) else self._item_added(self._item(Kind.CALL, IN_PROGRESS))

    def _item_added(self, item: Document) -> bytes:
        return self._event("response.output_item.added", output_index=len(self._output), item=item)

    def _piece(self, kind: Kind, text: str) -> bytes:
        self._pieces.append(text)
        self._stored += getsizeof(text)
        if kind is Kind.CALL:
            return self._call_piece_event(text)
        extra: Document = {}
        if kind is Kind.TEXT:
            extra["logprobs"], self._fresh = self._fresh, []
            self._logprobs += extra["logprobs"]
        where = self._where(kind)
        return self._event(f"response.{_PARTS[kind]}.delta", **where, content_index=0, delta=text, **extra)

    def _call_piece_event(self, text: str) -> bytes:
        if is_written_at_once(self._tool):
            return b""
        if self._input is None:
            return self._event(f"{_ARGUMENTS}.delta", **self._where(Kind.CALL), delta=text)
        known = self._input.feed(text)
        return self._event(f"{_INPUT}.delta", **self._where(Kind.CALL), delta=known) if known else b""

    def _part_ends(self, kind: Kind) -> bytes:
        item = self._item(kind, status_of(self._finish))
        events = self._call_ends(item) if kind is Kind.CALL else self._text_ends(kind, item)
        events += self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        if kind is Kind.TEXT:
            self._cited, self._told = [], 0
        return events

    def _text_ends(self, kind: Kind, item: Document) -> bytes:
        part, where = item["content"][0], self._where(kind)
        whole: Document = {"refusal": part["refusal"]} if kind is Kind.REFUSAL else {"text": part["text"]}
        if kind is Kind.TEXT:
            whole["logprobs"] = self._logprobs
        events = self._event(f"response.{_PARTS[kind]}.done", **where, content_index=0, **whole)
        return events + self._event("response.content_part.done", **where, content_index=0, part=part)

    def _call_ends(self, item: Document) -> bytes:
        where = {"item_id": item["id"], "output_index": len(self._output)}
        events = b""
        if is_written_at_once(self._tool):
            if item["type"] != "function_call":
                return self._item_added({**item, "status": IN_PROGRESS})
            events = self._item_added({**item, "status": IN_PROGRESS, "arguments": ""})
            events += self._event(f"{_ARGUMENTS}.delta", **where, delta=item["arguments"])
        if self._input is None:
            return events + self._event(f"{_ARGUMENTS}.done", **where, name=item["name"], arguments=item["arguments"])
        rest = self._input.finish()
        events = self._event(f"{_INPUT}.delta", **where, delta=rest) if rest else b""
        return events + self._event(f"{_INPUT}.done", **where, input=item["input"])

    def _item(self, kind: Kind, status: str) -> Document:
        """The open item as it is now."""
        index, text = len(self._output), "".join(self._pieces)
        if kind is Kind.CALL:
            return call_item(self._number, index, *self._named, text, status, self._tool)
        if kind is Kind.REASONING:
            return reasoning_item(self._number, index, text)
        return message_item(self._number, index, self._part(kind, text), status)

    def _where(self, kind: Kind) -> Document:
        """What places an event at the open item."""
        custom = kind is Kind.CALL and self._input is not None
        prefix = "ctc" if custom else _PREFIXES[kind]
        return {"item_id": f"{prefix}_{self._number}_{len(self._output)}", "output_index": len(self._output)}

    def _now(self) -> int:
        return int(self._clock())

    def _event(self, kind: str, **fields: object) -> bytes:
        self._sequence += 1
        return event({"type": kind, "sequence_number": self._sequence, **fields})
