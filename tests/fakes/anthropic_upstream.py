"""Anthropic's Messages API on the raw upstream: the documents and events that it sends.

async with FakeUpstream(anthropic_answer) as upstream: ...
"""

import json
from collections.abc import Iterable
from typing import Any

from fakes.openai_upstream import Received, Wire

USAGE = {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 1}


def message(
    content: list[dict[str, Any]], stop_reason: str | None = "end_turn", *, model: str = "claude-x", **extra: Any
) -> dict[str, Any]:
    """Give a whole message."""
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": stop_reason, "stop_sequence": None, "usage": USAGE, **extra,
    }  # fmt: skip


def text(value: str) -> dict[str, Any]:
    """Give a block of text."""
    return {"type": "text", "text": value}


def tool_use(name: str, given: dict[str, Any], number: str = "toolu_1") -> dict[str, Any]:
    """Give a call of a tool."""
    return {"type": "tool_use", "id": number, "name": name, "input": given}


def event(kind: str, **fields: Any) -> bytes:
    """Give one event."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def begin(model: str = "claude-x") -> bytes:
    """Give the first event of a stream."""
    return event("message_start", message=message([], None, model=model))


def text_delta(piece: str, index: int = 0) -> bytes:
    """Give a piece of text."""
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece})


STOP = event("message_stop")


def end(reason: str, *, output_tokens: int = 9, stop_sequence: str | None = None) -> bytes:
    """Give the last two events of a stream."""
    delta = {"stop_reason": reason, "stop_sequence": stop_sequence}
    return event("message_delta", delta=delta, usage={"output_tokens": output_tokens}) + STOP


def error(kind: str, said: str = "busy") -> bytes:
    """Give an error in the middle of a stream."""
    return event("error", error={"type": kind, "message": said})


def block_events(index: int, block: dict[str, Any], size: int = 5) -> Iterable[bytes]:
    """Give the events of one block, its content in pieces."""
    kind = block["type"]
    if kind == "text":
        empty, whole, name, key = {"type": kind, "text": ""}, block["text"], "text_delta", "text"
    elif kind == "thinking":
        empty, whole = {"type": kind, "thinking": "", "signature": ""}, block["thinking"]
        name, key = "thinking_delta", "thinking"
    else:
        empty, whole = {**block, "input": {}}, json.dumps(block["input"]) if block["input"] else ""
        name, key = "input_json_delta", "partial_json"
    yield event("content_block_start", index=index, content_block=empty)
    for at in range(0, len(whole), size):
        yield event("content_block_delta", index=index, delta={"type": name, key: whole[at : at + size]})
    yield event("content_block_stop", index=index)


def stream_events(content: list[dict[str, Any]], reason: str = "end_turn", *, model: str = "claude-x") -> list[bytes]:
    """Give a whole stream with this content."""
    blocks = [piece for index, block in enumerate(content) for piece in block_events(index, block)]
    return [begin(model), event("ping"), *blocks, end(reason)]


async def anthropic_answer(request: Received, wire: Wire) -> None:
    """Do what a healthy Anthropic does: call the first tool when it must, say hello otherwise."""
    document = request.document
    content, reason = [text("Hello there")], "end_turn"
    if document.get("tool_choice", {}).get("type") in ("any", "tool"):
        content, reason = [tool_use(document["tools"][0]["name"], {"city": "Ulm"})], "tool_use"
    if not document.get("stream"):
        await wire.json(message(content, reason, model=document["model"]))
        return
    await wire.stream_head()
    for piece in stream_events(content, reason, model=document["model"]):
        await wire.chunk(piece)
    await wire.end()
