"""A chat completion request as one of OpenAI's Responses API.

Their chat completions refuse an effort beside tools ("use /v1/responses"), which agents send with every request; this
API takes both. Only what it can say is sent there: see `fits_responses`.
"""

from typing import Any, Final

from capstan_gateway.dialects.fields import Document, read_object, read_objects, read_text, unsupported, word
from capstan_gateway.dialects.targets.ids import fitting_id

LEAST_TOKENS: Final = 16
"""The smallest limit that this API takes."""
_LONGEST_ID: Final = 64
"""Characters of a call's id that it takes."""
_SAME: Final = frozenset(
    (
        "metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
        "service_tier", "stream", "temperature", "top_p", "user",
    )
)  # fmt: skip
"""Fields that both APIs have, under one name."""
_TRANSLATED: Final = frozenset(
    (
        "max_completion_tokens", "max_tokens", "messages", "model", "reasoning_effort", "response_format",
        "stream_options", "tool_choice", "tools", "verbosity",
    )
)  # fmt: skip
_NO_EFFORT: Final = (None, "none")
_NO_PARAMETERS: Final[Document] = {"type": "object", "properties": {}}


def fits_responses(document: Document) -> bool:
    """Whether a chat request is to be sent as one of the Responses API: with an effort beside tools, and nothing that
    only chat has (`stop`, `n`, `logit_bias`, ...)."""
    if document.get("reasoning_effort") in _NO_EFFORT or not document.get("tools"):
        return False
    return all(key in _SAME or key in _TRANSLATED or document[key] is None for key in document)


def to_responses_request(document: Document, *, model: str) -> Document:
    """Translate a request that fits; InvalidRequest names the field that cannot be. OpenAI is told to store nothing."""
    request = {key: value for key, value in document.items() if key in _SAME and value is not None}
    request |= {"model": model, "store": False, "reasoning": {"effort": document["reasoning_effort"]}}
    request["input"] = [
        item for field, message in read_objects(document.get("messages"), "messages") for item in _items(message, field)
    ]
    request["tools"] = [_tool(tool, field) for field, tool in read_objects(document["tools"], "tools")]
    limit = document.get("max_completion_tokens") or document.get("max_tokens")
    if isinstance(limit, int):
        request["max_output_tokens"] = max(limit, LEAST_TOKENS)
    choice = document.get("tool_choice")
    if choice is not None:
        request["tool_choice"] = _choice(choice)
    text = _text(document)
    if text:
        request["text"] = text
    return request


def _items(message: Document, field: str) -> list[Document]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        call_id = _call_id(read_text(message, "tool_call_id", field))
        return [{"type": "function_call_output", "call_id": call_id, "output": _content(content, field) or ""}]
    if role == "assistant":
        said = _spoken(content or message.get("refusal"), field)
        calls = read_objects(message.get("tool_calls") or [], f"{field}.tool_calls")
        return [*said, *(_call(call, at) for at, call in calls)]
    return [{"type": "message", "role": role, "content": _content(content, field)}]


def _content(content: Any, field: str) -> Any:
    if content is None or isinstance(content, str):
        return content
    return [_part(part, at) for at, part in read_objects(content, f"{field}.content")]


def _part(part: Document, field: str) -> Document:
    kind = word(part.get("type"))
    if kind == "text":
        return {"type": "input_text", "text": read_text(part, "text", field)}
    if kind == "image_url":
        image = read_object(part.get("image_url"), f"{field}.image_url")
        detail = {"detail": image["detail"]} if image.get("detail") is not None else {}
        return {"type": "input_image", "image_url": read_text(image, "url", f"{field}.image_url"), **detail}
    if kind == "file":
        file = read_object(part.get("file"), f"{field}.file")
        return {"type": "input_file", **{key: file[key] for key in ("filename", "file_data", "file_id") if key in file}}
    if kind == "input_audio":
        return part
    raise unsupported(f"{field}.type", "allowed are text, image_url, file and input_audio")


def _spoken(content: Any, field: str) -> list[Document]:
    """Give what an assistant has said, as one message."""
    if isinstance(content, list):
        parts = [part.get("text") or part.get("refusal") for _, part in read_objects(content, f"{field}.content")]
        content = "".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str) or not content:
        return []
    return [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": content}]}]


def _call(call: Document, field: str) -> Document:
    function = read_object(call.get("function"), f"{field}.function")
    return {
        "type": "function_call",
        "call_id": _call_id(read_text(call, "id", field)),
        "name": read_text(function, "name", f"{field}.function"),
        "arguments": word(function.get("arguments")) or "{}",
    }


def _call_id(call_id: str) -> str:
    return call_id if len(call_id) <= _LONGEST_ID else fitting_id(call_id)


def _tool(tool: Document, field: str) -> Document:
    if tool.get("type") != "function":
        raise unsupported(f"{field}.type", "only function is allowed")
    function = read_object(tool.get("function"), f"{field}.function")
    made: Document = {"type": "function", "name": read_text(function, "name", f"{field}.function")}
    if function.get("description") is not None:
        made["description"] = function["description"]
    # NB: without a word, this API is strict and chat is not.
    return made | {"parameters": function.get("parameters") or _NO_PARAMETERS, "strict": function.get("strict") is True}


def _choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    function = read_object(choice.get("function"), "tool_choice.function")
    return {"type": "function", "name": read_text(function, "name", "tool_choice.function")}


def _text(document: Document) -> Document:
    text: Document = {}
    if document.get("verbosity") is not None:
        text["verbosity"] = document["verbosity"]
    wanted = document.get("response_format")
    if wanted is not None:
        form = read_object(wanted, "response_format")
        if form.get("type") == "json_schema":
            text["format"] = {
                **read_object(form.get("json_schema"), "response_format.json_schema"),
                "type": "json_schema",
            }
        else:
            text["format"] = form
    return text
