"""Reading streams of the three dialects back into whole answers."""

from collections.abc import Callable
from typing import Any

import orjson

Document = dict[str, Any]


def frames(stream: bytes) -> list[tuple[str, Document]]:
    """Give the events of a stream: name, and data."""
    events = []
    for frame in stream.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if line)
        if fields and fields.get(b"data") != b"[DONE]":
            events.append((fields.get(b"event", b"").decode(), orjson.loads(fields[b"data"])))
    return events


def read_chat(stream: bytes) -> Document:
    """Put chat completion chunks together to a chat completion."""
    assert stream.endswith(b"data: [DONE]\n\n")
    assert stream.count(b"[DONE]") == 1
    said: Document = {"choices": [{}]}
    texts: dict[str, list[str]] = {"content": [], "reasoning": [], "reasoning_content": []}
    calls: list[Document] = []
    for _, chunk in frames(stream):
        said |= {key: chunk[key] for key in ("id", "model", "created")}
        if chunk.get("usage") is not None:
            said["usage"] = chunk["usage"]
        for choice in chunk["choices"]:
            said["choices"][0] |= {
                key: choice[key] for key in ("index", "finish_reason", "stop_reason") if key in choice
            }
            for key, pieces in texts.items():
                pieces.append(choice["delta"].get(key) or "")
            for piece in choice["delta"].get("tool_calls", ()):
                if piece["index"] == len(calls):
                    calls.append({"id": piece["id"], "type": piece["type"], "function": dict(piece["function"])})
                else:
                    calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    message: Document = {"role": "assistant", "content": "".join(texts["content"]) or None}
    thoughts = {name: "".join(texts[name]) for name in ("reasoning", "reasoning_content")}
    message |= {name: text for name, text in thoughts.items() if text}
    if calls:
        message["tool_calls"] = calls
    said["choices"][0]["message"] = message
    return said


def read_messages(stream: bytes) -> Document:
    """Put Anthropic's events together to a message, and check their order."""
    events = frames(stream)
    assert all(name == data["type"] for name, data in events)
    assert events[0][0] == "message_start"
    assert events[-1][0] == "message_stop"
    assert events[-2][0] == "message_delta"
    message: Document = events[0][1]["message"]
    pieces: list[str] = []
    opened: int | None = None
    for kind, data in events[1:-2]:
        if kind == "content_block_start":
            assert opened is None
            assert data["index"] == len(message["content"])
            opened, pieces = data["index"], []
            message["content"].append(data["content_block"])
        elif kind == "content_block_delta":
            assert data["index"] == opened
            if data["delta"]["type"] == "signature_delta":
                message["content"][-1]["signature"] += data["delta"]["signature"]
                continue
            pieces.append(next(value for key, value in data["delta"].items() if key != "type"))
        elif kind == "content_block_stop":
            assert data["index"] == opened
            _fill(message["content"][-1], "".join(pieces))
            opened = None
        else:
            assert kind == "ping"
    assert opened is None
    return {**message, **events[-2][1]["delta"], "usage": message["usage"] | events[-2][1]["usage"]}


def _fill(block: Document, whole: str) -> None:
    if block["type"] == "tool_use":
        block["input"] = orjson.loads(whole or "{}")
    else:
        block[block["type"]] = whole


_WHOLE: dict[str, Callable[[Document], str]] = {
    "message": lambda item: item["content"][0].get("text", "") + item["content"][0].get("refusal", ""),
    "reasoning": lambda item: "".join(part["text"] for part in item.get("content", ())),
    "function_call": lambda item: item["arguments"],
    "custom_tool_call": lambda item: item["input"],
}
"""What the deltas of an item add up to."""


def read_responses(stream: bytes) -> Document:
    """Give the response at the end of a stream; check that the events before it add up to it."""
    assert stream.endswith(b"\n\ndata: [DONE]\n\n")
    assert stream.count(b"[DONE]") == 1
    events = frames(stream)
    assert all(name == data["type"] for name, data in events)
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert [name for name, _ in events[:2]] == ["response.created", "response.in_progress"]
    response: Document = events[-1][1]["response"]
    assert events[-1][0] == f"response.{response['status']}"
    done = [data["item"] for name, data in events if name == "response.output_item.done"]
    assert response["output"] == done
    deltas: dict[int, str] = {}
    for name, data in events:
        if name.endswith(".delta"):
            deltas[data["output_index"]] = deltas.get(data["output_index"], "") + data["delta"]
            assert data["item_id"] == done[data["output_index"]]["id"]
    for index, item in enumerate(done):
        if item["type"] in _WHOLE:
            assert deltas.get(index, "") == _WHOLE[item["type"]](item)
    return response
