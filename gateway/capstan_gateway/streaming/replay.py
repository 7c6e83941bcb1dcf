"""A whole answer as the stream that it would have been: the inverse of `streaming.assembly`."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from capstan_gateway.streaming.sse import DONE, data_frame

Document = dict[str, Any]
_OWN: Final = frozenset(("object", "choices", "usage"))
_HEAD: Final = ("id", "created", "model", "system_fingerprint")
"""Fields that every chunk repeats; what else an answer has is in the first one."""
_PLACED: Final = frozenset(("index", "message", "logprobs", "finish_reason"))


def to_frames(answer: Mapping[str, Any], *, usage: bool) -> bytes:
    """The SSE frames of a chat or text completion: each choice, each finish, usage if asked for, the end."""
    return b"".join([*(data_frame(chunk) for chunk in to_chunks(answer, usage=usage)), DONE])


def to_chunks(answer: Mapping[str, Any], *, usage: bool) -> Iterator[Document]:
    """The chunks of a chat or text completion."""
    chat = str(answer.get("object", "")).startswith("chat")
    head = {name: answer[name] for name in _HEAD if name in answer}
    head["object"] = "chat.completion.chunk" if chat else "text_completion"
    extra = {"usage": None} if usage else {}
    first = {name: value for name, value in answer.items() if name not in _OWN}
    for choice in answer.get("choices") or ():
        for piece in _chat_pieces(choice) if chat else _text_pieces(choice):
            yield {**first, **head, "choices": [piece], **extra}
            first = {}
    if usage:
        yield {**first, **head, "choices": [], "usage": answer.get("usage")}


def _chat_pieces(choice: Mapping[str, Any]) -> list[Document]:
    message = dict(choice.get("message") or {})
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        message["tool_calls"] = [{**call, "index": position} for position, call in enumerate(calls)]
    delta = {name: value for name, value in message.items() if value not in (None, [])}
    index = choice.get("index", 0)
    rest = {name: value for name, value in choice.items() if name not in _PLACED}
    finish = choice.get("finish_reason") or "stop"
    return [
        {"index": index, "delta": {"role": "assistant", **delta}, "finish_reason": None,
         "logprobs": choice.get("logprobs")},
        {"index": index, "delta": {}, "finish_reason": finish, "logprobs": None, **rest},
    ]  # fmt: skip


def _text_pieces(choice: Mapping[str, Any]) -> list[Document]:
    return [{**choice, "index": choice.get("index", 0), "finish_reason": choice.get("finish_reason") or "stop"}]
