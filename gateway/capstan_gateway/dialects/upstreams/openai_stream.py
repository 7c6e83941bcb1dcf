"""A stream of OpenAI's Responses API as a stream of chat completion chunks."""

from typing import Any, Final

from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.frames import EventRelay
from capstan_gateway.dialects.upstreams.openai_answer import (
    finish_of,
    read_failure,
    read_responses_usage,
    write_chat_usage,
)
from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.cut import Cut, chat_end
from capstan_gateway.streaming.relay import error_end
from capstan_gateway.streaming.sse import DONE, data_frame

_PIECES: Final = {
    "response.output_text.delta": "content",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
}
_ENDS: Final = frozenset(("response.completed", "response.incomplete", "response.failed"))


class ResponsesRelay(EventRelay):
    """One stream, written anew."""

    def __init__(self, *, model: str, usage_asked: bool, created: int) -> None:
        super().__init__()
        self._usage_asked = usage_asked
        self._base = {"id": "", "object": "chat.completion.chunk", "created": created, "model": model}
        self._calls: dict[int, int] = {}
        """Index of each tool call in chat, by its place among all items."""
        self._silent: set[int] = set()
        """Those of which no arguments came yet."""

    def failure(self, error: GatewayError) -> bytes:
        """The chunks that end a stream which cannot go on."""
        return error_end(error)

    def cut(self, cut: Cut, last: bytes) -> bytes:  # noqa: ARG002 - one signature
        """The chunks that end a stream well before its engine does."""
        return chat_end(self._base, [] if self.finished else [0], cut)

    def _event(self, kind: str, payload: Document) -> bytes | None:
        name = _PIECES.get(kind)
        if name is not None:
            return self._say({name: payload["delta"]}, payload["delta"])
        if kind == "response.created":
            self._base["id"] = payload["response"]["id"]
            # It is not counted as an event: what fails before the first token can still be answered otherwise.
            return self._chunk({"role": "assistant", "content": ""})
        if kind == "response.output_item.added":
            return self._item_begins(payload["item"], payload["output_index"])
        if kind == "response.function_call_arguments.delta":
            return self._arguments(payload["output_index"], payload["delta"])
        if kind == "response.output_item.done":
            return self._item_ends(payload["item"], payload["output_index"])
        if kind in _ENDS:
            return self._end(payload["response"])
        if kind == "error":
            return self._fail(payload.get("error") or payload)
        return None

    def _other(self, frame: bytes) -> bytes:  # noqa: ARG002 - one signature
        return b""

    def _item_begins(self, item: Document, place: int) -> bytes:
        if item["type"] != "function_call":
            return b""
        self._calls[place] = len(self._calls)
        self._silent.add(place)
        function = {"name": item["name"], "arguments": ""}
        call = {"index": self._calls[place], "id": item["call_id"], "type": "function", "function": function}
        return self._say({"tool_calls": [call]}, item["name"])

    def _arguments(self, place: int, piece: str) -> bytes:
        self._silent.discard(place)
        return self._say({"tool_calls": [{"index": self._calls[place], "function": {"arguments": piece}}]}, piece)

    def _item_ends(self, item: Document, place: int) -> bytes:
        """The arguments of a call that came whole."""
        if item["type"] != "function_call":
            return b""
        begun = b"" if place in self._calls else self._item_begins(item, place)
        return begun + (self._arguments(place, item["arguments"] or "{}") if place in self._silent else b"")

    def _end(self, response: Document) -> bytes:
        self.usage = read_responses_usage(response)
        if response.get("status") == "failed":
            return self._fail(response.get("error") or {})
        self.finished = self.done = self.begun = True
        end = self._chunk({}, finish_reason=finish_of(response, calls=bool(self._calls)))
        usage = write_chat_usage(response) if self._usage_asked else None
        if usage is not None:
            end += data_frame({**self._base, "choices": [], "usage": usage})
        return end + DONE

    def _fail(self, found: Document) -> bytes:
        self.error = read_failure(found)
        self.done = True
        return self.failure(self.error)

    def _say(self, delta: Document, text: object) -> bytes:
        self._note(text)
        return self._chunk(delta)

    def _chunk(self, delta: Document, *, finish_reason: str | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return data_frame({**self._base, "choices": [choice]})
