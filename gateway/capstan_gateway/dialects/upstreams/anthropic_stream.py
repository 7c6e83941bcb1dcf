"""A stream of Anthropic events as a stream of chat completion chunks."""

from typing import Any, Final

from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.frames import EventRelay, ended_early
from capstan_gateway.dialects.upstreams.anthropic_answer import (
    FINISH_REASONS,
    read_usage,
    stop_reason,
    thought,
    write_usage,
)
from capstan_gateway.documents import to_json
from capstan_gateway.engine_errors import normalise_error
from capstan_gateway.errors import GatewayError, UpstreamRejected
from capstan_gateway.streaming.cut import Cut, chat_end
from capstan_gateway.streaming.relay import error_end
from capstan_gateway.streaming.sse import DONE, data_frame

_STATUS_OF_TYPE: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def read_error(payload: Document) -> UpstreamRejected:
    """Turn an error event of theirs into ours."""
    status = _STATUS_OF_TYPE.get(payload["error"]["type"], 500)
    return normalise_error(status, to_json(payload), external=True)


class AnthropicRelay(EventRelay):
    """One stream, written anew."""

    def __init__(self, *, model: str, usage_asked: bool, created: int) -> None:
        super().__init__()
        self._usage_asked = usage_asked
        self._base = {"id": "", "object": "chat.completion.chunk", "created": created, "model": model}
        self._counts: Document = {}
        self._calls = -1
        """Index of the tool call that is being written; theirs counts blocks, OpenAI's counts calls."""
        self._silent_call: Document | None = None
        """Input of the open tool call, as long as no piece of it came."""

    def failure(self, error: GatewayError) -> bytes:
        """The chunks that end a stream which cannot go on."""
        return error_end(error)

    def cut(self, cut: Cut, last: bytes) -> bytes:  # noqa: ARG002 - one signature
        """The chunks that end a stream well before its engine does."""
        return chat_end(self._base, [] if self.finished else [0], cut)

    def _event(self, kind: str, payload: Document) -> bytes | None:
        if kind == "content_block_delta":
            return self._delta(payload["delta"])
        if kind == "message_start":
            self._base["id"] = payload["message"]["id"]
            self._count(payload["message"]["usage"])
            # It is not counted as an event: what fails before the first token can still be answered otherwise.
            return self._chunk({"role": "assistant", "content": ""})
        if kind == "content_block_start":
            return self._block_begins(payload["content_block"])
        if kind == "content_block_stop":
            return self._block_ends()
        if kind == "message_delta":
            return self._message_delta(payload)
        if kind == "message_stop":
            return self._stop()
        if kind == "error":
            self.error = read_error(payload)
            self.done = True
            return self.failure(self.error)
        return None

    def _other(self, frame: bytes) -> bytes:  # noqa: ARG002 - one signature
        return b""

    def _block_begins(self, block: Document) -> bytes:
        kind = block["type"]
        if kind == "tool_use":
            self._calls += 1
            self._silent_call = block.get("input") or {}
            function = {"name": block["name"], "arguments": ""}
            call = {"index": self._calls, "id": block["id"], "type": "function", "function": function}
            return self._say({"tool_calls": [call]}, block["name"])
        if kind == "text" and block.get("text"):
            return self._say({"content": block["text"]}, block["text"])
        if kind == "thinking" and block.get("thinking"):
            return self._say(thought(block["thinking"]), block["thinking"])
        return b""

    def _block_ends(self) -> bytes:
        """The arguments of a call whose input came whole, or is empty: no arguments would not be JSON."""
        silent, self._silent_call = self._silent_call, None
        return b"" if silent is None else self._arguments(to_json(silent).decode())

    def _delta(self, delta: Document) -> bytes:
        kind = delta["type"]
        if kind == "text_delta":
            return self._say({"content": delta["text"]}, delta["text"])
        if kind == "thinking_delta":
            return self._say(thought(delta["thinking"]), delta["thinking"])
        if kind == "input_json_delta" and delta["partial_json"]:
            self._silent_call = None
            return self._arguments(delta["partial_json"])
        return b""

    def _arguments(self, piece: str) -> bytes:
        return self._say({"tool_calls": [{"index": self._calls, "function": {"arguments": piece}}]}, piece)

    def _message_delta(self, event: Document) -> bytes:
        self._count(event.get("usage") or {})
        reason = event["delta"].get("stop_reason")
        if reason is None:
            return b""
        self.finished = self.begun = True
        return self._chunk({}, finish_reason=FINISH_REASONS.get(reason, "stop"), **stop_reason(event["delta"]))

    def _stop(self) -> bytes:
        if not self.finished:
            raise ended_early(b"")
        self.done = True
        if not self._usage_asked:
            return DONE
        return data_frame({**self._base, "choices": [], "usage": write_usage(self._counts)}) + DONE

    def _count(self, usage: Document) -> None:
        """Take their counts, which are cumulative and come in two parts."""
        self._counts.update({name: value for name, value in usage.items() if value is not None})
        self.usage = read_usage(self._counts)

    def _say(self, delta: Document, text: object) -> bytes:
        self._note(text)
        return self._chunk(delta)

    def _chunk(self, delta: Document, *, finish_reason: str | None = None, **extra: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, **extra}
        return data_frame({**self._base, "choices": [choice]})
