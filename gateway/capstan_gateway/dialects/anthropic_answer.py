"""An Anthropic message as a chat completion."""

import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.streaming.usage import Usage

FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def read_usage(found: Mapping[str, Any]) -> Usage:
    """Read their usage: what came from a cache, or went into one, is input as well."""
    fresh, written, cached, output = (
        value if isinstance(value := found.get(name), int) else 0
        for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    )
    return Usage(fresh + written + cached, output, cached)


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write usage as OpenAI does."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def to_chat_completion(body: bytes, *, model: str) -> tuple[bytes, Usage]:
    """Translate an answer; UpstreamFailed when it is none."""
    try:
        found = orjson.loads(body)
        content, usage = found["content"], read_usage(found["usage"])
        message = _message(content)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UpstreamFailed("the hosted model answered with something that is not a message") from error
    completion = {
        "id": found.get("id"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": FINISH_REASONS.get(found.get("stop_reason"), "stop"),
            }
        ],
        "usage": write_usage(usage),
    }
    return orjson.dumps(completion), usage


def _message(content: list[dict[str, Any]]) -> dict[str, Any]:
    text = [block["text"] for block in content if block["type"] == "text"]
    thinking = [block["thinking"] for block in content if block["type"] == "thinking"]
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()},
        }
        for block in content
        if block["type"] == "tool_use"
    ]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(text) if text else None}
    if thinking:
        message["reasoning_content"] = "".join(thinking)
    if calls:
        message["tool_calls"] = calls
    return message
