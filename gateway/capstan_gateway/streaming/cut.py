"""The end of a stream that somebody else than its engine has made: as of an answer that has reached its length."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from capstan_gateway.streaming.sse import DONE, data_frame, frame_data
from capstan_gateway.tokens.usage import Usage

Document = dict[str, Any]
FINISH_REASON: Final = "length"
NOTE: Final = "capstan"
"""The field of the last event that says why. No client's SDK trips over a field that it does not know, and some trip
over comments: they take every line for data."""
_HEAD: Final = ("id", "object", "created", "model", "system_fingerprint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What the end has to tell."""

    usage: Usage
    """What the answer has used."""
    tells_usage: bool
    """Whether the client has asked for it."""
    note: Mapping[str, Any]
    """Why."""


def chat_end(head: Mapping[str, Any], choices: Iterable[int], cut: Cut) -> bytes:
    """Give the last frames of a stream of chat or text completion chunks with these choices open."""
    said: Document = {"text": ""} if head.get("object") == "text_completion" else {"delta": {}}
    extra = {NOTE: dict(cut.note)}
    frames = []
    for index in choices:
        choice = {"index": index, **said, "logprobs": None, "finish_reason": FINISH_REASON}
        frames.append(data_frame({**head, "choices": [choice], **extra}))
        extra = {}
    if cut.tells_usage:
        frames.append(data_frame({**head, "choices": [], "usage": chat_usage(cut.usage)}))
    return b"".join((*frames, DONE))


def chat_usage(usage: Usage) -> Document:
    """Write usage as chat completions do."""
    total = usage.prompt_tokens + usage.completion_tokens
    found: Document = {
        "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "total_tokens": total,
    }  # fmt: skip
    if usage.cached_tokens:
        found["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return found


def head_of(run: bytes) -> Document:
    """Give what every chunk of a stream repeats, by the last one of these whole frames; {} of none."""
    for frame in reversed(run.split(b"\n\n")):
        data = frame_data(frame)
        if data is None or not data.startswith(b"{"):
            continue
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            continue
        return {name: chunk[name] for name in _HEAD if name in chunk}
    return {}
