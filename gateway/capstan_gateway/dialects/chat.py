"""Reading chat completions, from engines that do not all write them alike."""

from collections.abc import Mapping
from typing import Any

from capstan_gateway.dialects.fields import Document
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.streaming.usage import Usage, parse_usage


def first_choice(completion: Mapping[str, Any]) -> tuple[Document, Document]:
    """The first choice of a whole answer, and its message."""
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise UpstreamFailed("the model's engine answered without a message")
    return choice, message


def first_deltas(chunk: Mapping[str, Any]) -> list[tuple[Document, Document]]:
    """The pieces of the first choice in a chunk, each with its delta; none in a chunk with usage."""
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return []
    return [
        (choice, choice.get("delta") or {})
        for choice in choices
        if isinstance(choice, dict) and choice.get("index", 0) == 0
    ]


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message or a delta; a refusal is text as well."""
    value = message.get("content") or message.get("refusal")
    return value if isinstance(value, str) else ""


def reasoning_of(message: Mapping[str, Any]) -> str:
    """The reasoning of a message or a delta, under either of its names."""
    value = message.get("reasoning") or message.get("reasoning_content")
    return value if isinstance(value, str) else ""


def calls_of(message: Mapping[str, Any]) -> list[Document]:
    """The tool calls of a message or a delta."""
    calls = message.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def function_of(call: Mapping[str, Any]) -> tuple[str, str]:
    """Name and arguments of a call, or of a piece of one."""
    function = call.get("function")
    if not isinstance(function, dict):
        return "", ""
    return str(function.get("name") or ""), str(function.get("arguments") or "")


def usage_of(document: Mapping[str, Any]) -> tuple[Usage, int, int]:
    """Usage, tokens written to a cache, and reasoning tokens; zeros where the engine says nothing."""
    found = document.get("usage")
    usage = parse_usage(found) or Usage(0, 0)
    return (
        usage,
        _detail(found, "prompt_tokens_details", _WRITTEN),
        _detail(found, "completion_tokens_details", _REASONING),
    )


_WRITTEN = ("cache_write_tokens", "cache_creation_tokens", "created_cache_tokens")
_REASONING = ("reasoning_tokens",)


def _detail(usage: Any, group: str, names: tuple[str, ...]) -> int:
    details = usage.get(group) if isinstance(usage, dict) else None
    if not isinstance(details, dict):
        return 0
    return next((value for name in names if isinstance(value := details.get(name), int) and value > 0), 0)
