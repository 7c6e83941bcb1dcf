"""Reading chat completions, from engines that do not all write them alike."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

import orjson

from capstan_gateway.dialects.fields import Document
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.streaming.deltas import delta_texts, texts_of
from capstan_gateway.tokens.usage import Usage, count_of, parse_usage

_REASONING: Final = ("reasoning", "reasoning_content", "reasoning_text", "thinking", "reasoning_details")
"""Its names: vLLM's, DeepSeek's, Copilot's, Ollama's, OpenRouter's. Of several the first one counts."""


def first_choice(completion: Any) -> tuple[Document, Document]:
    """The first choice of a whole answer, and its message; UpstreamFailed when nobody could read them."""
    choices = completion.get("choices") if isinstance(completion, dict) else None
    choice = _as_one(choices) if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise UpstreamFailed("the model's engine answered without a message")
    for _ in (*texts_of(choice), *delta_texts(message)):
        pass
    return choice, message


def _as_one(choices: list[Any]) -> Any:
    """The first choice, with what stands apart of it: GitHub Copilot's API puts text and calls into a choice each."""
    parts = [one for one in choices if isinstance(one, dict) and not one.get("index")]
    messages = [one["message"] for one in parts if isinstance(one.get("message"), dict)]
    if len(messages) < 2 or len(messages) < len(choices):
        return choices[0]
    merged: Document = {}
    for message in messages:
        calls = [*calls_of(merged), *calls_of(message)]
        merged = {**message, **{key: value for key, value in merged.items() if value}}
        if calls:
            merged["tool_calls"] = calls
    return {**parts[-1], "message": merged}


def with_id(document: Mapping[str, Any]) -> Document:
    """The answer or chunk with an id: some engines give none, and agents take answers that share one for the same."""
    return {**document, "id": document.get("id") or uuid.uuid4().hex}


def first_deltas(chunk: Mapping[str, Any]) -> list[tuple[Document, Document]]:
    """The pieces of the first choice in a chunk, each with its delta; none in a chunk with usage."""
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return []
    return [
        (choice, choice.get("delta") or {})
        for choice in choices
        if isinstance(choice, dict) and not choice.get("index")
    ]


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message or a delta; a refusal is text as well."""
    return _joined(message.get("content") or message.get("refusal"), "text")


def reasoning_of(message: Mapping[str, Any]) -> str:
    """The reasoning of a message or a delta, under the first of its names, or as parts of the content."""
    found = next((message[name] for name in _REASONING if message.get(name)), None)
    if isinstance(found, dict):
        found = found.get("text") or found.get("summary") or found.get("content")
    if isinstance(found, list):
        found = [part.get("text") or part.get("summary") if isinstance(part, dict) else part for part in found]
    if not found and isinstance(message.get("content"), list):
        found = [part.get("thinking") for part in message["content"] if isinstance(part, dict)]
    return _joined(found, "text")


def _joined(value: Any, field: str) -> str:
    """A text that may come in parts, and in parts of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        value = value.get(field)
        return value if isinstance(value, str) else ""
    return "".join(_joined(part, field) for part in value) if isinstance(value, list) else ""


def calls_of(message: Mapping[str, Any]) -> list[Document]:
    """The tool calls of a message or a delta; a call of the older form, `function_call`, is one as well."""
    calls = message.get("tool_calls")
    if not calls and isinstance(message.get("function_call"), dict):
        return [{"function": message["function_call"]}]
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def function_of(call: Mapping[str, Any]) -> tuple[str, str]:
    """Name and arguments of a call, or of a piece of one."""
    function = call.get("function")
    if not isinstance(function, dict):
        return "", ""
    name, arguments = function.get("name") or "", function.get("arguments") or ""
    if not isinstance(name, str):
        raise UpstreamFailed("the model's engine sent a malformed answer: `tool_calls.function.name` must be a string")
    return name, arguments_text(arguments)


def arguments_text(arguments: Any) -> str:
    """A call's arguments as the JSON text that clients expect; some engines send them as an object."""
    return arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()


def usage_of(document: Mapping[str, Any]) -> tuple[Usage, int, int]:
    """Usage, tokens written to a cache, and reasoning tokens; zeros where the engine says nothing."""
    found = document.get("usage")
    usage = parse_usage(found) or Usage(0, 0)
    return (
        usage,
        usage.written_tokens,
        _reasoning_tokens(found),
    )


def _reasoning_tokens(usage: Any) -> int:
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    return count_of(details.get("reasoning_tokens")) if isinstance(details, dict) else 0
