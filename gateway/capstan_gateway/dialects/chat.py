"""Reading chat completions, from engines that do not all write them alike."""

import uuid
from collections.abc import Mapping
from typing import Any

from capstan_gateway.dialects.fields import Document
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.streaming.answers import as_one
from capstan_gateway.streaming.call_parts import text_of_arguments
from capstan_gateway.streaming.deltas import delta_texts, texts_of
from capstan_gateway.tokens.estimate import TextCount
from capstan_gateway.tokens.prompt import prompt_tokens
from capstan_gateway.tokens.usage import Usage, count_of, parse_usage


def first_choice(completion: Any) -> tuple[Document, Document]:
    """The first choice of a whole answer, and its message; UpstreamFailed when nobody could read them."""
    choices = completion.get("choices") if isinstance(completion, dict) else None
    choice = (as_one(choices) or choices[0]) if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise UpstreamFailed("the model's engine answered without a message")
    for _ in (*texts_of(choice), *delta_texts(message)):
        pass
    return choice, message


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


def calls_of(message: Mapping[str, Any]) -> list[Document]:
    """The tool calls of a message or a delta; a call of the older form, `function_call`, is one as well."""
    calls = message.get("tool_calls")
    if not calls and isinstance(message.get("function_call"), dict):
        return [{"function": message["function_call"]}]
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def named_arguments(call: Mapping[str, Any]) -> tuple[str, str]:
    """Name and arguments of a call, or of a piece of one."""
    function = call.get("function")
    if not isinstance(function, dict):
        return "", ""
    name = function.get("name") or ""
    if not isinstance(name, str):
        raise UpstreamFailed("the model's engine sent a malformed answer: `tool_calls.function.name` must be a string")
    return name, text_of_arguments(function.get("arguments"), begun=True)


def with_counts(completion: Mapping[str, Any], message: Document, request: Mapping[str, Any]) -> Document:
    """The answer with what it took: told by its engine, else estimated of the client's request and the message."""
    if parse_usage(completion.get("usage")) is not None:
        return dict(completion)
    said = TextCount()
    for text in delta_texts(message):
        said.add(text)
    return {**completion, "usage": {"prompt_tokens": prompt_tokens(request), "completion_tokens": said.tokens}}


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
