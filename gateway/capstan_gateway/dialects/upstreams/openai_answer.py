"""A response of OpenAI's Responses API as a chat completion."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from capstan_gateway.dialects.fields import Document
from capstan_gateway.documents import to_json
from capstan_gateway.engine_errors import normalise_error
from capstan_gateway.errors import TOO_LONG, UpstreamFailed, UpstreamRejected
from capstan_gateway.tokens.usage import Usage, count_of, kinds_of, parse_usage, written_of

_STATUS_OF_CODE: Final = {"rate_limit_exceeded": 429, "invalid_prompt": 400, TOO_LONG: 400}
_REASONS: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}
CHAT: Final = "chat.completion"


def read_failure(found: Mapping[str, Any]) -> UpstreamRejected:
    """Turn an error that came inside a response, or as an event, into ours: told without whose account it was."""
    return normalise_error(_STATUS_OF_CODE.get(str(found.get("code")), 500), to_json({"error": found}), external=True)


def read_responses_usage(response: Document) -> Usage | None:
    """Read usage as the Responses API writes it; None where there is none yet."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    details = usage.get("input_tokens_details")
    cached, written = (count_of(details.get("cached_tokens")), written_of(details)) if type(details) is dict else (0, 0)
    kinds = kinds_of(details, usage.get("output_tokens_details"))
    ins, out = count_of(usage.get("input_tokens")), count_of(usage.get("output_tokens"))
    return Usage(ins, out, cached, written, False, *kinds)


def write_chat_usage(response: Document) -> Document | None:
    """Write their usage as chat does; None where there is none."""
    usage = read_responses_usage(response)
    if usage is None:
        return None
    details = response["usage"].get("output_tokens_details")
    thought = count_of(details.get("reasoning_tokens")) if isinstance(details, dict) else 0
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def response_to_completion(body: bytes, *, model: str, created: int) -> tuple[bytes, Usage | None]:
    """Translate an answer; UpstreamFailed when it is none, UpstreamRejected when it tells of an error.

    Some servers that are like OpenAI's answer with a chat completion here: that is what is wanted already.
    """
    try:
        found = orjson.loads(body)
        if found.get("object") == CHAT:
            return to_json({**found, "model": model}), parse_usage(found.get("usage"))
        if found.get("error") is not None:
            raise read_failure(found["error"])
        return to_json(_completion(found, model=model, created=created)), read_responses_usage(found)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UpstreamFailed("the hosted model answered with something that is not a response") from error


def finish_of(response: Mapping[str, Any], *, calls: bool) -> str:
    """Give chat's reason why a response ended."""
    details = response.get("incomplete_details")
    if response.get("status") == "incomplete":
        return _REASONS.get(str(details.get("reason")) if isinstance(details, dict) else "", "length")
    return "tool_calls" if calls else "stop"


def _completion(found: Document, *, model: str, created: int) -> Document:
    message = _message(found["output"])
    finish = finish_of(found, calls="tool_calls" in message)
    completion: Document = {
        "id": found.get("id"), "object": CHAT, "created": created, "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
    }  # fmt: skip
    usage = write_chat_usage(found)
    return completion if usage is None else {**completion, "usage": usage}


def _message(output: list[Document]) -> Document:
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    texts = [part["text"] for part in parts if part["type"] == "output_text"]
    refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
    calls = [
        {
            "id": item["call_id"],
            "type": "function",
            "function": {"name": item["name"], "arguments": item["arguments"] or "{}"},
        }
        for item in output
        if item["type"] == "function_call"
    ]
    thoughts = [
        part["text"]
        for item in output
        if item["type"] == "reasoning"
        for name in ("summary", "content")
        for part in item.get(name) or ()
    ]
    message: Document = {"role": "assistant", "content": "".join(texts) if texts else None}
    if refusals:
        message["refusal"] = "".join(refusals)
    if thoughts:
        message["reasoning"] = "\n".join(thoughts)
    return {**message, "tool_calls": calls} if calls else message
