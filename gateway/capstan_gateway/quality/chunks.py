"""A whole answer as the stream that it would have been."""

from collections.abc import Mapping
from typing import Any

from capstan_gateway.streaming.sse import DONE, data_frame


def to_frames(answer: Mapping[str, Any], *, usage: bool) -> bytes:
    """The SSE frames of a chat or text completion: each choice, each finish, usage if asked for, the end."""
    chat = str(answer.get("object", "")).startswith("chat")
    head = {name: answer[name] for name in ("id", "created", "model", "system_fingerprint") if name in answer}
    head["object"] = "chat.completion.chunk" if chat else "text_completion"
    extra = {"usage": None} if usage else {}
    frames = []
    for choice in answer.get("choices") or ():
        for piece in _chat_pieces(choice) if chat else _text_pieces(choice):
            frames.append(data_frame({**head, "choices": [piece], **extra}))
    if usage:
        frames.append(data_frame({**head, "choices": [], "usage": answer.get("usage")}))
    return b"".join((*frames, DONE))


def _chat_pieces(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    message = dict(choice.get("message") or {})
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        message["tool_calls"] = [{**call, "index": position} for position, call in enumerate(calls)]
    delta = {name: value for name, value in message.items() if value not in (None, [])}
    index, rest = choice.get("index", 0), {name: value for name, value in choice.items() if name in _PER_CHOICE}
    return [
        {
            "index": index,
            "delta": {"role": "assistant", **delta},
            "finish_reason": None,
            "logprobs": choice.get("logprobs"),
        },
        {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason") or "stop", "logprobs": None, **rest},
    ]


_PER_CHOICE = frozenset(("stop_reason",))


def _text_pieces(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{**choice, "index": choice.get("index", 0), "finish_reason": choice.get("finish_reason") or "stop"}]
