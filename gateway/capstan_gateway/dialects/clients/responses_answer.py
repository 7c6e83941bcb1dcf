"""A chat completion as a response of OpenAI's Responses API."""

from collections.abc import Mapping
from typing import Any, Final

from capstan_gateway.dialects.chat import calls_of, first_choice, named_arguments, usage_of, with_counts, with_id
from capstan_gateway.dialects.clients.responses_items import (
    COMPLETED,
    annotations_of,
    call_item,
    logprobs_of,
    message_item,
    reasoning_item,
    refusal_part,
    signature_item,
    text_part,
)
from capstan_gateway.dialects.clients.responses_tools import ToolKind, Tools
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.signatures import signature_of
from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.forms import reasoning_of, refusal_of, text_of
from capstan_gateway.streaming.tool_calls import repaired_calls

INCOMPLETE: Final = "incomplete"
IN_PROGRESS: Final = "in_progress"
_INCOMPLETE_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_TOO_LONG: Final = "context_length_exceeded"
_ECHOED: Final[tuple[tuple[str, Any], ...]] = (
    ("frequency_penalty", 0.0), ("instructions", None), ("max_output_tokens", None), ("max_tool_calls", None),
    ("metadata", {}), ("parallel_tool_calls", True), ("presence_penalty", 0.0), ("prompt_cache_key", None),
    ("safety_identifier", None), ("temperature", 1.0), ("tool_choice", "auto"), ("top_logprobs", 0), ("top_p", 1.0),
    ("truncation", "disabled"), ("user", None),
)  # fmt: skip
"""Fields of a response that repeat the request's, with the defaults."""


def to_response(
    completion: Mapping[str, Any], request: Document, *, now: int, tools: Tools | None = None, kept: str = ""
) -> Document:
    """Translate an answer that is whole `now`, in seconds since 1970; UpstreamFailed when it is none.

    `tools` are those of the request, where they were read already. One that is kept has an id of ours, made of `kept`:
    the engine's may be one that others can guess.
    """
    choice, message = first_choice(completion)
    completion = {**completion, "id": kept} if kept else with_id(completion)
    number, finish = number_of(completion), choice.get("finish_reason")
    output: list[Document] = []
    reasoning, text, refusal = reasoning_of(message), text_of(message), refusal_of(message)
    if reasoning:
        output.append(reasoning_item(number, len(output), reasoning))
    if text:
        part = text_part(text, logprobs_of(choice), annotations_of(message))
        output.append(message_item(number, len(output), part, COMPLETED))
    if refusal:
        output.append(message_item(number, len(output), refusal_part(refusal), COMPLETED))
    calls = repaired_calls(calls_of(message))
    known = (Tools.of(request) if tools is None else tools).by_chat_name if calls else {}
    for call in calls:
        if signature := signature_of(call):
            output.append(signature_item(number, len(output), signature))
        name, arguments = named_arguments(call)
        item = call_item(number, len(output), call.get("id"), name, arguments, COMPLETED, known.get(name))
        output.append(item)
    if output and output[-1]["type"] != "reasoning":
        output[-1]["status"] = status_of(finish)
    head = response_head(completion, request, now=now, stored=bool(kept))
    usage = write_usage(with_counts(completion, message, request))
    return {**head, **outcome(finish, head, now=now), "output": output, "usage": usage}


def number_of(document: Mapping[str, Any]) -> str:
    """What is unique in an answer's id."""
    return str(document.get("id") or "0").removeprefix("chatcmpl-").removeprefix("msg_")


def response_head(document: Mapping[str, Any], request: Document, *, now: int, stored: bool = False) -> Document:
    """A response of which nothing is known yet but its request."""
    echoed = {name: request.get(name) if request.get(name) is not None else default for name, default in _ECHOED}
    created = document.get("created")
    return {
        "id": f"resp_{number_of(document)}",
        "object": "response",
        "created_at": int(created) if isinstance(created, int | float) and created else now,
        "completed_at": None,
        "model": document.get("model") or request.get("model"),
        "status": IN_PROGRESS,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "output": [],
        "previous_response_id": request.get("previous_response_id") or None,
        "reasoning": _reasoning(request.get("reasoning")),
        "service_tier": "default",
        "store": stored,
        "text": _text(request.get("text")),
        "tools": [_tool(tool) for tool in request.get("tools") or []],
        "usage": None,
        **echoed,
    }


def _reasoning(asked: Any) -> Document | None:
    return None if asked is None else {"effort": None, "summary": None, **asked}


def _text(asked: Any) -> Document:
    form = (asked or {}).get("format") or {"type": "text"}
    if form.get("type") == "json_schema":
        form = {"description": None, **form, "strict": bool(form.get("strict"))}
    return {**(asked or {}), "format": form}


def _tool(tool: Document) -> Document:
    if tool.get("type") != ToolKind.FUNCTION.value:
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}


def status_of(finish: object) -> str:
    """The status of an answer, and of its last item."""
    return INCOMPLETE if finish in _INCOMPLETE_REASONS else COMPLETED


def outcome(finish: object, head: Document, *, now: int) -> Document:
    """The fields that say how an answer ended, and when."""
    reason = _INCOMPLETE_REASONS.get(str(finish))
    return {
        "status": status_of(finish),
        "incomplete_details": {"reason": reason} if reason else None,
        # The engine's clock may be ahead.
        "completed_at": None if reason else max(now, head["created_at"]),
    }


def failed(error: GatewayError) -> Document:
    """The fields that say that an answer broke off."""
    code = {429: "rate_limit_exceeded", 400: "invalid_prompt"}.get(error.status, "server_error")
    if error.code == _TOO_LONG:
        # By this code, and by no words, agents know to make the conversation shorter.
        code = _TOO_LONG
    return {"status": "failed", "error": {"code": code, "message": error.message}}


def write_usage(document: Mapping[str, Any]) -> Document | None:
    """Write usage as the Responses API does; None when the engine says nothing."""
    if not isinstance(document.get("usage"), dict):
        return None
    usage, written, reasoning = usage_of(document)
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": written},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
