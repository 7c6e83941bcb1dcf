"""Streams that stay in their dialect: the client's is the hosted model's own. They are read, not written anew."""

from typing import Any, Final

import orjson

from capstan_gateway.dialects.clients.messages_answer import error_document
from capstan_gateway.dialects.clients.native_cut import INCOMPLETE, KeptItems
from capstan_gateway.dialects.clients.responses_answer import failed, write_usage
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.frames import EventRelay, ended_early, event
from capstan_gateway.dialects.upstreams.anthropic_answer import read_usage
from capstan_gateway.dialects.upstreams.anthropic_stream import read_error
from capstan_gateway.dialects.upstreams.openai_answer import read_failure, read_responses_usage
from capstan_gateway.documents import to_json
from capstan_gateway.errors import GatewayError, UpstreamFailed
from capstan_gateway.streaming.cut import NOTE, Cut, chat_usage
from capstan_gateway.streaming.relay import Rename
from capstan_gateway.tokens.usage import Usage

_PIECES: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
"""Types of Anthropic's deltas that are output, with the field that holds it."""


class NativeRelay(EventRelay):
    """One stream, passed on; only the model may have another name in it."""

    def __init__(self, rename: Rename | None = None) -> None:
        super().__init__()
        self._rename = rename

    def keep_for_cut(self) -> None:
        """Keep what the end of a stream tells, from its beginning on: it may be cut."""

    def _other(self, frame: bytes) -> bytes:
        return (self._rename(frame) if self._rename is not None else frame) + b"\n\n"


class NativeMessagesRelay(NativeRelay):
    """Anthropic's events for a client of `/v1/messages`."""

    def __init__(self, rename: Rename | None = None) -> None:
        super().__init__(rename)
        self._counts: Document = {}
        self._open: dict[int, None] = {}
        """Places of the blocks that are open."""

    def failure(self, error: GatewayError) -> bytes:
        """The events that end a stream which cannot go on."""
        return event(error_document(error))

    def cut(self, cut: Cut, last: bytes) -> bytes:  # noqa: ARG002 - one signature
        """The events that end a stream well before its host does."""
        usage = {**self._counts, "output_tokens": cut.usage.completion_tokens}
        delta = {"stop_reason": "max_tokens", "stop_sequence": None}
        end = {"type": "message_delta", "delta": delta, "usage": usage, NOTE: dict(cut.note)}
        stops = [event({"type": "content_block_stop", "index": index}) for index in self._open]
        return b"".join((*stops, event(end), event({"type": "message_stop"})))

    def _event(self, kind: str, payload: dict[str, Any]) -> bytes | None:
        if kind == "content_block_delta":
            delta = payload["delta"]
            self._note(delta.get(_PIECES.get(delta["type"], "")))
        elif kind == "content_block_start":
            self._open[payload["index"]] = None
        elif kind == "content_block_stop":
            self._open.pop(payload["index"], None)
        elif kind == "message_start":
            self._count(payload["message"]["usage"])
        elif kind == "message_delta":
            self._count(payload.get("usage") or {})
            if payload["delta"].get("stop_reason") is not None:
                self.finished = self.begun = True
        elif kind == "message_stop":
            if not self.finished:
                raise ended_early(b"")
            self.done = True
        elif kind == "error":
            self.error = read_error(payload)
            self.done = True
            return self.failure(self.error)
        return None

    def _count(self, usage: Document) -> None:
        self._counts |= {name: value for name, value in usage.items() if value is not None}
        self.usage = read_usage(self._counts)


class NativeResponsesRelay(NativeRelay):
    """OpenAI's events for a client of `/v1/responses`."""

    def __init__(self, rename: Rename | None = None) -> None:
        super().__init__(rename)
        self._head: Document = {"object": "response", "output": []}
        self._sequence = -1
        self._items: KeptItems | None = None

    @property
    def kept(self) -> int:
        """How many bytes are kept."""
        return self._splitter.kept + (0 if self._items is None else self._items.held)

    def keep_for_cut(self) -> None:
        """Keep the items of the answer: the last event tells them all."""
        self._items = KeptItems()

    def cut(self, cut: Cut, last: bytes) -> bytes:  # noqa: ARG002 - one signature
        """The events that end a stream well before its host does."""
        items = self._items or KeptItems()
        events, output = items.end(self._write)
        ended = {
            **self._head, "status": INCOMPLETE, "incomplete_details": {"reason": "max_output_tokens"},
            "output": output, "usage": write_usage({"usage": chat_usage(cut.usage)}), NOTE: dict(cut.note),
        }  # fmt: skip
        end = events + self._write("response.incomplete", response=ended)
        return end if self._rename is None else self._rename(end)

    def _write(self, kind: str, **fields: object) -> bytes:
        self._sequence += 1
        return event({"type": kind, "sequence_number": self._sequence, **fields})

    def failure(self, error: GatewayError) -> bytes:
        """The events that end a stream which cannot go on."""
        response = {**self._head, **failed(error)}
        return event({"type": "response.failed", "sequence_number": self._sequence + 1, "response": response})

    def _event(self, kind: str, payload: dict[str, Any]) -> bytes | None:
        number = payload.get("sequence_number")
        self._sequence = number if isinstance(number, int) else self._sequence
        if self._items is not None:
            self._items.note(kind, payload)
        if kind == "response.created":
            self._head = {**payload["response"]}
        elif kind.endswith(".delta"):
            delta = payload.get("delta")
            self._note(delta if type(delta) is str else None)
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            self._end(payload["response"])
            if self.error is not None:
                told = event({**payload, "response": {**payload["response"], **failed(self.error)}})
                return told if self._rename is None else self._rename(told)
        elif kind == "error":
            self.error = read_failure(payload.get("error") or payload)
            self.done = True
            return self.failure(self.error)
        return None

    def _end(self, response: Document) -> None:
        self.finished = self.done = self.begun = True
        self.usage = read_responses_usage(response)
        if response.get("status") == "failed":
            self.error = read_failure(response.get("error") or {})


def read_native_message(body: bytes) -> Usage | None:
    """The usage of a whole message of Anthropic's; UpstreamFailed when it is none."""
    return read_usage(_load(body, "message")["usage"])


def read_native_response(body: bytes) -> tuple[bytes, Usage | None]:
    """A whole response of OpenAI's, and its usage; UpstreamFailed when it is none.

    What it says of its failure is told without whose account it was.
    """
    found = _load(body, "response")
    error = found.get("error")
    if isinstance(error, dict):
        body = to_json({**found, **failed(read_failure(error))})
    return body, read_responses_usage(found)


def check_count(body: bytes) -> None:
    """Raise UpstreamFailed unless this is a count of tokens."""
    try:
        count = orjson.loads(body)["input_tokens"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise UpstreamFailed("the model's engine answered without a count") from error
    if not isinstance(count, int):
        raise UpstreamFailed("the model's engine answered without a count")


def _load(body: bytes, kind: str) -> Document:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or kind not in (found.get("type"), found.get("object")):
        raise UpstreamFailed("the hosted model answered with something else than was asked for")
    if kind == "message" and not isinstance(found.get("usage"), dict):
        raise UpstreamFailed("the hosted model answered without usage")
    return found
