"""A stream of Anthropic events as a stream of chat completion chunks."""

import time
from typing import Any

import orjson

from capstan_gateway.api.envelope import error_payload, normalise_error
from capstan_gateway.dialects.anthropic_answer import FINISH_REASONS, read_usage, write_usage
from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.relay import StreamBroken
from capstan_gateway.streaming.sse import DONE, FrameSplitter, FrameTooLarge, data_frame, frame_data
from capstan_gateway.streaming.usage import Usage

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 503,
}


class MessagesRelay:
    """One stream; `streaming.port.Relay`."""

    def __init__(self, *, model: str, usage_asked: bool) -> None:
        self._splitter = FrameSplitter()
        self._usage_asked = usage_asked
        self._base = {"id": "", "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._counts: dict[str, Any] = {}
        self._calls = -1
        """Index of the tool call that is being written; theirs counts blocks, OpenAI's counts calls."""
        self.usage: Usage | None = None
        self.events = 0
        self.finished = False
        self.error: GatewayError | None = None
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Give the chunks to send to the client; raises StreamBroken when the stream makes no sense."""
        try:
            run = self._splitter.feed(data)
        except FrameTooLarge as error:
            raise StreamBroken("the model's answer held an event that is too large") from error
        return b"".join([self._frame(frame) for frame in run.split(b"\n\n")])

    def finish(self) -> bytes:
        """Give what remains to be sent at the end of the body; raises StreamBroken if that came too early."""
        rest = self._splitter.rest().strip(b"\n")
        tail = self.feed(rest + b"\n\n") if rest else b""
        if self.done:
            return tail
        if not self.finished and self.error is None:
            raise StreamBroken("the model's answer ended before it was finished")
        return tail + self._end()

    def _frame(self, frame: bytes) -> bytes:
        data = frame_data(frame.strip(b"\n"))
        if data is None or self.done:
            return b""
        try:
            event = orjson.loads(data)
            return self._event(event["type"], event)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise StreamBroken("the model's answer held an event that is not one") from error

    def _event(self, kind: str, event: dict[str, Any]) -> bytes:
        if kind == "content_block_delta":
            return self._delta(event["delta"])
        if kind == "message_start":
            self._base["id"] = event["message"]["id"]
            self._count(event["message"]["usage"])
            return self._chunk({"role": "assistant", "content": ""})
        if kind == "content_block_start" and event["content_block"]["type"] == "tool_use":
            return self._call_begins(event["content_block"])
        if kind == "message_delta":
            return self._message_delta(event)
        if kind == "message_stop":
            return self._stop()
        if kind == "error":
            status = _STATUS_OF_TYPE.get(event["error"]["type"], 500)
            self.error = normalise_error(status, orjson.dumps(event), external=True)
            return data_frame(error_payload(self.error))
        # ping, the end of a block, and what is new since this was written
        return b""

    def _delta(self, delta: dict[str, Any]) -> bytes:
        kind = delta["type"]
        if kind == "text_delta":
            return self._chunk({"content": delta["text"]})
        if kind == "thinking_delta":
            return self._chunk({"reasoning_content": delta["thinking"]})
        if kind == "input_json_delta":
            arguments = {"arguments": delta["partial_json"]}
            return self._chunk({"tool_calls": [{"index": self._calls, "function": arguments}]})
        return b""

    def _call_begins(self, block: dict[str, Any]) -> bytes:
        self._calls += 1
        function = {"name": block["name"], "arguments": ""}
        call = {"index": self._calls, "id": block["id"], "type": "function", "function": function}
        return self._chunk({"tool_calls": [call]})

    def _message_delta(self, event: dict[str, Any]) -> bytes:
        self._count(event.get("usage") or {})
        reason = event["delta"].get("stop_reason")
        if reason is None:
            return b""
        self.finished = True
        return self._chunk({}, FINISH_REASONS.get(reason, "stop"))

    def _stop(self) -> bytes:
        if not self.finished:
            raise StreamBroken("the model's answer ended before it was finished")
        return self._end()

    def _end(self) -> bytes:
        self.done = True
        if not self._usage_asked or self.usage is None or self.error is not None:
            return DONE
        return data_frame({**self._base, "choices": [], "usage": write_usage(self.usage)}) + DONE

    def _count(self, usage: dict[str, Any]) -> None:
        """Take their counts, which are cumulative and come in two parts."""
        self._counts.update({name: value for name, value in usage.items() if value is not None})
        self.usage = read_usage(self._counts)

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        self.events += 1
        return data_frame({**self._base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
