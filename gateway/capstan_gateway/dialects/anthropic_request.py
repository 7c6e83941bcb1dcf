"""A chat completion request as an Anthropic messages request.

What has no counterpart and would change the answer (`n`, `logprobs`, JSON without a schema) is refused with the field's
name. What has none and only hints is left out, because that API refuses fields that it does not know.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from capstan_gateway.errors import InvalidRequest

VERSION: Final = b"2023-06-01"
DEFAULT_MAX_TOKENS: Final = 4096
"""That API needs a limit. Taken when neither the request nor the model says one."""
_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}


def to_messages_request(
    document: Mapping[str, Any], *, model: str, max_output_tokens: int | None = None
) -> dict[str, Any]:
    """Translate a request; InvalidRequest names the field that cannot be."""
    _refuse_what_has_no_counterpart(document)
    system, messages = _split_messages(document["messages"])
    request: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": _max_tokens(document) or max_output_tokens or DEFAULT_MAX_TOKENS,
    }
    if system:
        request["system"] = system
    for theirs, (ours, convert) in _OPTIONS.items():
        if document.get(theirs) is not None:
            request[ours] = convert(document[theirs])
    tools = document.get("tools")
    if tools:
        if not isinstance(tools, list):
            raise _wrong("tools", "must be a list")
        request["tools"] = [_tool(tool, f"tools.{position}") for position, tool in enumerate(tools)]
        choice = _tool_choice(document)
        if choice is not None:
            request["tool_choice"] = choice
    schema = _schema(document.get("response_format"))
    if schema is not None:
        request["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return request


def _schema(response_format: Any) -> dict[str, Any] | None:
    if not isinstance(response_format, dict) or response_format.get("type") != "json_schema":
        return None
    given = response_format.get("json_schema")
    schema = given.get("schema") if isinstance(given, dict) else None
    if not isinstance(schema, dict):
        raise _wrong("response_format.json_schema.schema", "must be an object")
    return schema


_OPTIONS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "stream": ("stream", bool),
    # Their scale ends at 1, OpenAI's at 2.
    "temperature": ("temperature", lambda value: min(value, 1.0) if isinstance(value, int | float) else value),
    "top_p": ("top_p", lambda value: value),
    "top_k": ("top_k", lambda value: value),
    "stop": ("stop_sequences", lambda value: [value] if isinstance(value, str) else value),
    "user": ("metadata", lambda value: {"user_id": value}),
}


def _refuse_what_has_no_counterpart(document: Mapping[str, Any]) -> None:
    response_format = document.get("response_format")
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    for field, wrong in (
        ("n", document.get("n") not in (None, 1)),
        ("logprobs", bool(document.get("logprobs"))),
        ("response_format", kind == "json_object"),
    ):
        if wrong:
            raise _unsupported(field)


def _max_tokens(document: Mapping[str, Any]) -> int | None:
    value = document.get("max_completion_tokens") or document.get("max_tokens")
    return value if isinstance(value, int) else None


def _split_messages(given: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Give the system prompt and the turns: theirs alternate, so neighbours of one role become one."""
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for position, message in enumerate(given):
        field, role = f"messages.{position}", message["role"]
        if role in ("system", "developer"):
            system.extend(block["text"] for block in _content(message.get("content"), field))
            continue
        speaker = "assistant" if role == "assistant" else "user"
        blocks = _blocks(role, message, field)
        if turns and turns[-1]["role"] == speaker:
            turns[-1]["content"].extend(blocks)
        elif blocks:
            turns.append({"role": speaker, "content": blocks})
    return "\n\n".join(system), turns


def _blocks(role: str, message: dict[str, Any], field: str) -> list[dict[str, Any]]:
    if role == "tool":
        content = _content(message.get("content"), field)
        return [{"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": content}]
    if role == "assistant":
        calls = message.get("tool_calls") or ()
        return [
            *_content(message.get("content"), field),
            *(_tool_use(call, f"{field}.tool_calls.{number}") for number, call in enumerate(calls)),
        ]
    if role == "user":
        return _content(message.get("content"), field)
    raise InvalidRequest(f"`{field}.role` has an unknown value", code="invalid_value", param=f"{field}.role")


def _content(content: Any, field: str) -> list[dict[str, Any]]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise _wrong(f"{field}.content", "must be a string or a list of parts")
    return [_part(part, f"{field}.content.{number}") for number, part in enumerate(content)]


def _part(part: Any, field: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "image_url" and isinstance(part.get("image_url"), dict):
        return {"type": "image", "source": _image(str(part["image_url"].get("url")), field)}
    raise _unsupported(field)


def _image(url: str, field: str) -> dict[str, str]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, comma, data = url[5:].partition(",")
    media_type, semicolon, encoding = head.partition(";")
    if not (comma and semicolon and encoding == "base64"):
        raise _wrong(f"{field}.image_url.url", "must be an http(s) URL or data:TYPE;base64,DATA")
    return {"type": "base64", "media_type": media_type, "data": data}


def _tool_use(call: Any, field: str) -> dict[str, Any]:
    try:
        function = call["function"]
        arguments = orjson.loads(function.get("arguments") or "{}")
        return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise _wrong(field, "must be a function call whose arguments are JSON") from error


def _tool(tool: Any, field: str) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _wrong(field, "must be a function with a name")
    made = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    if function.get("description"):
        made["description"] = function["description"]
    return made


def _tool_choice(document: Mapping[str, Any]) -> dict[str, Any] | None:
    given = document.get("tool_choice")
    one_at_a_time = document.get("parallel_tool_calls") is False
    if given is None and not one_at_a_time:
        return None
    if isinstance(given, dict):
        function = given.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _wrong("tool_choice.function.name", "must be a string")
        choice: dict[str, Any] = {"type": "tool", "name": function["name"]}
    elif given is None or (isinstance(given, str) and given in _CHOICES):
        choice = {"type": _CHOICES[given or "auto"]}
    else:
        raise _wrong("tool_choice", "must be auto, none, required or a function")
    if one_at_a_time and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _unsupported(field: str) -> InvalidRequest:
    return InvalidRequest(f"`{field}` is not supported by this model's API", code="unsupported_value", param=field)


def _wrong(field: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{field}` {must}", code="invalid_value", param=field)
