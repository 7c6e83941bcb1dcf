"""An Anthropic message as a chat completion."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from capstan_gateway.dialects.fields import Document
from capstan_gateway.documents import to_json
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.tokens.usage import Usage, count_of

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
    fresh, cached, written, output = (
        count_of(found.get(name))
        for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    )
    kept = found.get("cache_creation")
    hour = count_of(kept.get("ephemeral_1h_input_tokens")) if isinstance(kept, dict) else 0
    return Usage(fresh + written + cached, output, cached, written, hour_tokens=hour)


def write_usage(found: Mapping[str, Any]) -> Document:
    """Write their usage as OpenAI does."""
    usage = read_usage(found)
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.written_tokens,
        },
    }


def to_chat_completion(body: bytes, *, model: str, created: int) -> tuple[bytes, Usage]:
    """Translate an answer; UpstreamFailed when it is none."""
    try:
        found = orjson.loads(body)
        usage = read_usage(found["usage"])
        return to_json(_completion(found, model=model, created=created)), usage
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UpstreamFailed("the hosted model answered with something that is not a message") from error


def _completion(found: Document, *, model: str, created: int) -> Document:
    message = _message(found["content"])
    finish = FINISH_REASONS.get(str(found.get("stop_reason")), "stop")
    return {
        "id": found.get("id"),
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish, **stop_reason(found)}],
        "usage": write_usage(found["usage"]),
    }


def stop_reason(found: Mapping[str, Any]) -> Document:
    """What vLLM tells beside a finish reason: the sequence that ended the answer."""
    matched = found.get("stop_sequence")
    return {"stop_reason": matched} if isinstance(matched, str) else {}


def thought(text: str) -> Document:
    """What the model thought, under both names by which clients of chat look for it."""
    return {"reasoning": text, "reasoning_content": text}


def _message(content: list[Document]) -> Document:
    text = [block["text"] for block in content if block["type"] == "text"]
    thinking = [block["thinking"] for block in content if block["type"] == "thinking"]
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": to_json(block["input"]).decode()},
        }
        for block in content
        if block["type"] == "tool_use"
    ]
    message: Document = {"role": "assistant", "content": "".join(text) if text else None}
    if thinking:
        message |= thought("".join(thinking))
    if calls:
        message["tool_calls"] = calls
    return message
