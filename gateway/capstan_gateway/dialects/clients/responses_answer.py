"""A chat completion as a response of OpenAI's Responses API."""

from collections.abc import Mapping
from typing import Any, Final

from capstan_gateway.dialects.chat import calls_of, first_choice, function_of, reasoning_of, text_of, usage_of
from capstan_gateway.dialects.fields import Document
from capstan_gateway.errors import GatewayError

COMPLETED: Final = "completed"
INCOMPLETE: Final = "incomplete"
IN_PROGRESS: Final = "in_progress"
_INCOMPLETE_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED: Final[tuple[tuple[str, Any], ...]] = (
    ("instructions", None), ("max_output_tokens", None), ("metadata", {}), ("parallel_tool_calls", True),
    ("prompt_cache_key", None), ("reasoning", None), ("safety_identifier", None), ("temperature", None),
    ("text", {"format": {"type": "text"}}), ("tool_choice", "auto"), ("tools", []), ("top_p", None), ("user", None),
)  # fmt: skip
"""Fields of a response that repeat the request's, with the defaults."""


def to_response(completion: Mapping[str, Any], request: Document) -> Document:
    """Translate an answer; UpstreamFailed when it is none."""
    choice, message = first_choice(completion)
    number, finish = number_of(completion), choice.get("finish_reason")
    output: list[Document] = []
    reasoning, text = reasoning_of(message), text_of(message)
    if reasoning:
        output.append(reasoning_item(number, len(output), reasoning))
    if text:
        output.append(message_item(number, len(output), text, COMPLETED))
    for call in calls_of(message):
        name, arguments = function_of(call)
        output.append(call_item(number, len(output), call.get("id"), name, arguments, COMPLETED))
    if output and output[-1]["type"] != "reasoning":
        output[-1]["status"] = status_of(finish)
    return {
        **response_head(completion, request),
        **outcome(finish),
        "output": output,
        "usage": write_usage(completion),
    }


def number_of(document: Mapping[str, Any]) -> str:
    """What is unique in an answer's id."""
    return str(document.get("id") or "0").removeprefix("chatcmpl-").removeprefix("msg_")


def response_head(document: Mapping[str, Any], request: Document) -> Document:
    """A response of which nothing is known yet but its request."""
    echoed = {name: request.get(name) if request.get(name) is not None else default for name, default in _ECHOED}
    return {
        "id": f"resp_{number_of(document)}",
        "object": "response",
        "created_at": document.get("created") or 0,
        "model": document.get("model"),
        "status": IN_PROGRESS,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "output": [],
        "previous_response_id": None,
        "service_tier": "default",
        "store": False,
        "truncation": "disabled",
        "usage": None,
        **echoed,
    }


def status_of(finish: object) -> str:
    """The status of an answer, and of its last item."""
    return INCOMPLETE if finish in _INCOMPLETE_REASONS else COMPLETED


def outcome(finish: object) -> Document:
    """The fields that say how an answer ended."""
    reason = _INCOMPLETE_REASONS.get(str(finish))
    return {"status": status_of(finish), "incomplete_details": {"reason": reason} if reason else None}


def failed(error: GatewayError) -> Document:
    """The fields that say that an answer broke off."""
    code = "rate_limit_exceeded" if error.status == 429 else "invalid_prompt" if error.status == 400 else "server_error"
    return {"status": "failed", "error": {"code": code, "message": error.message}}


def reasoning_item(number: str, index: int, text: str) -> Document:
    """An item of `output` with reasoning, at this place of it."""
    content = [{"type": "reasoning_text", "text": text}]
    return {"id": f"rs_{number}_{index}", "type": "reasoning", "summary": [], "content": content, "status": COMPLETED}


def message_item(number: str, index: int, text: str, status: str) -> Document:
    """An item of `output` with the text of the assistant, at this place of it."""
    return {
        "id": f"msg_{number}_{index}", "type": "message", "role": "assistant", "status": status,
        "content": [text_part(text)],
    }  # fmt: skip


def text_part(text: str) -> Document:
    """The one part that the content of a message has."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(number: str, index: int, call_id: object, name: str, arguments: str, status: str) -> Document:
    """An item of `output` that calls a function, at this place of it."""
    return {
        "id": f"fc_{number}_{index}", "type": "function_call", "call_id": str(call_id), "name": name,
        "arguments": arguments, "status": status,
    }  # fmt: skip


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
