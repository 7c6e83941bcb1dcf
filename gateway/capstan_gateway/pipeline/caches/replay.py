"""An entry as the reply that it was: in one piece, or as a stream, whichever is asked for."""

from collections.abc import Iterator
from typing import Any, Final

import orjson

from capstan_gateway.caches.port import Entry, Form
from capstan_gateway.dialects.clients.native import NativeMessagesRelay, NativeResponsesRelay
from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.documents import to_json
from capstan_gateway.pipeline.engine_answer import asked_by
from capstan_gateway.pipeline.held import HeldSource
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.request import Request
from capstan_gateway.streaming.assembly import Assembler
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.replay import to_frames
from capstan_gateway.streaming.sse import frame_data

_END: Final = b"[DONE]"


def replayed(entry: Entry, request: Request, *, model_id: str) -> Reply:
    """Give the reply of an entry that fits the request: `fits` has said so."""
    if not request.stream:
        return WholeReply(200, entry.content_type, entry.body, native=entry.form is Form.NATIVE)
    if entry.form is Form.NATIVE_STREAM:
        relay = NativeMessagesRelay() if request.route.dialect is MESSAGES else NativeResponsesRelay()
        return StreamReply(relay.feed(entry.body), HeldSource(model_id), relay, native=True)
    told = StreamRelay(strip_usage=not request.usage_asked, asked=asked_by(request))
    frames = to_frames(orjson.loads(entry.body), usage=request.usage_asked)
    return StreamReply(told.feed(frames), HeldSource(model_id), told)


def fits(entry: Entry, request: Request) -> bool:
    """Whether an entry can be given as this request asks for it."""
    if entry.form is Form.ANSWER:
        return True
    return (entry.form is Form.NATIVE_STREAM) == request.stream


def assembled(frames: bytes) -> dict[str, Any] | None:
    """Give the answer that the frames of a stream add up to; None where they are none, or not all of one."""
    assembler = Assembler()
    ended = False
    try:
        for data in _data_of(frames):
            if data == _END:
                ended = True
            else:
                assembler.add(orjson.loads(data))
    except (StreamBroken, ValueError, TypeError, AttributeError):
        return None
    return assembler.answer() if ended and assembler.whole else None


def native_end(frames: bytes) -> dict[str, Any] | None:
    """Give what a stream in a dialect says of the answer: a response; or a message, with the kinds of its blocks."""
    blocks: list[dict[str, Any]] = []
    reason: Any = None
    id: Any = None
    try:
        for data in _data_of(frames):
            event = orjson.loads(data)
            kind = event.get("type")
            if kind == "response.completed":
                found = event["response"]
                return found if isinstance(found, dict) else None
            if kind == "message_start":
                id = event["message"].get("id")
            elif kind == "content_block_start":
                blocks.append({"type": event["content_block"]["type"]})
            elif kind == "message_delta":
                reason = event["delta"].get("stop_reason") or reason
            elif kind == "message_stop":
                return {"id": id, "type": "message", "stop_reason": reason, "content": blocks}
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
    return None


def _data_of(frames: bytes) -> Iterator[bytes]:
    for frame in frames.split(b"\n\n"):
        data = frame_data(frame)
        if data:
            yield data


def with_cached_usage(answer: dict[str, Any]) -> bytes:
    """Write an answer as it is kept: whoever gets it again is told that all of its input came out of a cache."""
    usage = answer.get("usage")
    if isinstance(usage, dict) and isinstance(usage.get("prompt_tokens"), int):
        details = usage.get("prompt_tokens_details")
        known = details if isinstance(details, dict) else {}
        cached = {**known, "cached_tokens": usage["prompt_tokens"]}
        answer = {**answer, "usage": {**usage, "prompt_tokens_details": cached}}
    return to_json(answer)
