"""A chat completion as an Anthropic message, and errors in Anthropic's shape."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from capstan_gateway.dialects.chat import calls_of, first_choice, named_arguments, usage_of, with_counts, with_id
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.signatures import UNSIGNED, signature_of
from capstan_gateway.errors import TOO_LONG, GatewayError
from capstan_gateway.streaming.forms import reasoning_of, refusal_of, text_of
from capstan_gateway.streaming.tool_calls import repaired_calls

STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_ERROR_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OVERLOADED: Final = 529
"""What Anthropic answers where everybody else says 503."""


def to_message(completion: Mapping[str, Any], request: Mapping[str, Any] | None = None) -> Document:
    """Translate an answer to this request of the client; UpstreamFailed when it is none.

    A refusal is text as well. What an engine has not counted is estimated.
    """
    choice, message = first_choice(completion)
    asked = request or {}
    content: list[Document] = []
    reasoning, refusal = reasoning_of(message), refusal_of(message)
    if reasoning:
        content.append({"type": "thinking", "thinking": reasoning, "signature": UNSIGNED})
    content += [{"type": "text", "text": text} for text in (text_of(message), refusal) if text]
    calls = repaired_calls(calls_of(message))
    for call in calls:
        if signature := signature_of(call):
            content.append({"type": "thinking", "thinking": "", "signature": signature})
        content.append(_tool_use(call))
    finish, matched = choice.get("finish_reason"), choice.get("stop_reason")
    return {
        **message_head({**completion, "model": completion.get("model") or asked.get("model")}),
        "content": content,
        **stop(finish, matched, called=bool(calls), refused=bool(refusal)),
        "usage": write_usage(with_counts(completion, message, asked)),
    }


def message_head(document: Mapping[str, Any]) -> Document:
    """The fields that a message begins with."""
    number = str(with_id(document)["id"]).removeprefix("chatcmpl-").removeprefix("msg_")
    return {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": document.get("model")}


def stop(finish: object, matched: object, *, called: bool, refused: bool = False) -> Document:
    """Say why the answer ended; `matched` is what vLLM tells beside the finish reason."""
    if refused and not called:
        return {"stop_reason": "refusal", "stop_sequence": None}
    if not called and STOP_REASONS.get(str(finish)) == "tool_use":
        # Without a call there is nothing for a client to do: it would ask again for ever.
        finish = "stop"
    if finish == "stop" and called:
        # Engines say "stop" of a call that was forced.
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if finish == "stop" and isinstance(matched, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": matched}
    return {"stop_reason": STOP_REASONS.get(str(finish), "end_turn"), "stop_sequence": None}


def write_usage(document: Mapping[str, Any]) -> Document:
    """Write usage as Anthropic does: input that came from a cache or went into one is counted apart."""
    usage, written, _ = usage_of(document)
    return {
        "input_tokens": max(0, usage.prompt_tokens - usage.cached_tokens - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _tool_use(call: Document) -> Document:
    name, arguments = named_arguments(call)
    return {"type": "tool_use", "id": call["id"], "name": name, "input": input_of(arguments)}


def input_of(arguments: str) -> Document:
    """A call's input, an object; of what is none the client gets the text, as it does on the other routes."""
    try:
        given = orjson.loads(arguments or "{}")
        if isinstance(given, str):
            given = orjson.loads(given)  # Some engines encode it twice.
    except orjson.JSONDecodeError:
        given = None
    return given if isinstance(given, dict) else {"arguments": arguments}


def error_type(error: GatewayError) -> str:
    """Anthropic's word for an error."""
    return _ERROR_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")


_BOTH_TOO_LONG: Final = (
    "input length and `max_tokens` exceed context limit: %d + %d > %d,"
    " decrease input length or `max_tokens` and try again"
)


def error_document(error: GatewayError) -> Document:
    """An error in Anthropic's shape."""
    return {"type": "error", "error": {"type": error_type(error), "message": error_words(error)}}


def error_words(error: GatewayError) -> str:
    """What is said of an error: of a prompt that is too long in the words by which Claude Code knows to compact."""
    if error.code != TOO_LONG or "prompt is too long" in error.message.lower():
        return error.message
    prompt, answer, window = error.lengths or (0, 0, 0)
    if prompt > window:
        return f"prompt is too long: {prompt} tokens > {window} maximum"
    if prompt and prompt + answer > window:
        # To this it answers with a smaller `max_tokens`.
        return _BOTH_TOO_LONG % (prompt, answer, window)
    return f"prompt is too long: {error.message}"


def write_error(error: GatewayError, request_id: str) -> tuple[int, bytes]:
    """Status and body of an error answer; a 503 becomes what Anthropic says then."""
    status = _OVERLOADED if error.status == 503 else error.status
    return status, orjson.dumps({**error_document(error), "request_id": request_id})
