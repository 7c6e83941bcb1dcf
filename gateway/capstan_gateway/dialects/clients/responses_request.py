"""A request of OpenAI's Responses API as a chat completion request: its stateless part.

Nothing is stored here, so what refers to something stored is refused. Fields that neither API knows pass through.
"""

from collections.abc import Callable
from itertools import takewhile
from typing import Any, Final

from capstan_gateway.dialects.fields import (
    Document,
    missing,
    read_limit,
    read_object,
    read_objects,
    read_switch,
    read_text,
    unsupported,
    word,
    wrong,
)

_HINTS: Final = frozenset(
    (
        "include", "max_tool_calls", "metadata", "prompt_cache_options", "prompt_cache_retention", "service_tier",
        "stream_options",
    )
)  # fmt: skip
_TRANSLATED: Final = frozenset(
    (
        "background", "input", "instructions", "max_output_tokens", "reasoning", "store", "stream", "text",
        "tool_choice", "tools", "top_logprobs", "truncation",
    )
)  # fmt: skip
_STATEFUL: Final = {
    "previous_response_id": "nothing is stored; send the whole conversation as `input`",
    "conversation": "nothing is stored; send the whole conversation as `input`",
    "prompt": "prompts are not stored; send `instructions` and `input`",
    "background": "only false is allowed; use `stream` for long answers",
    "store": "only false is allowed; responses are not stored and cannot be retrieved",
    "top_logprobs": "use /v1/chat/completions with `logprobs`",
    "context_management": "leave it out",
    "moderation": "leave it out",
}
_LOGPROBS: Final = "message.output_text.logprobs"
_NO_TOOL: Final = "only function tools are allowed"


def to_chat_request(document: Document) -> Document:
    """Translate a request; InvalidRequest names the field that cannot be."""
    _refuse(document)
    dropped = _TRANSLATED | _HINTS | _STATEFUL.keys()
    request = {key: value for key, value in document.items() if key not in dropped}
    request["messages"] = _one_system([*_instructions(document.get("instructions")), *_messages(document.get("input"))])
    if document.get("max_output_tokens") is not None:
        request["max_tokens"] = read_limit(document["max_output_tokens"], "max_output_tokens")
    if read_switch(document, "stream"):
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    reasoning = read_object(document.get("reasoning") or {}, "reasoning")
    if reasoning.get("effort") is not None:
        request["reasoning_effort"] = reasoning["effort"]
    _add_text(request, read_object(document.get("text") or {}, "text"))
    _add_tools(request, document)
    return request


def _refuse(document: Document) -> None:
    for field, instead in _STATEFUL.items():
        if document.get(field):
            raise unsupported(field, instead)
    if document.get("truncation") not in (None, "disabled"):
        raise unsupported("truncation", "only disabled is allowed")
    include = document.get("include") or []
    if not isinstance(include, list):
        raise wrong("include", "must be a list")
    if _LOGPROBS in include:
        raise unsupported("include", f"{_LOGPROBS} is not available; use /v1/chat/completions with `logprobs`")


def _instructions(value: Any) -> list[Document]:
    if value is None or value == "":
        return []
    if not isinstance(value, str):
        raise wrong("instructions", "must be a string")
    return [{"role": "system", "content": value}]


def _one_system(messages: list[Document]) -> list[Document]:
    """Make one of the system messages at the beginning: many chat templates take no second one."""
    leading = [message["content"] for message in takewhile(lambda message: message["role"] == "system", messages)]
    if len(leading) < 2 or not all(isinstance(content, str) for content in leading):
        return messages
    return [{"role": "system", "content": "\n\n".join(leading)}, *messages[len(leading) :]]


def _messages(value: Any) -> list[Document]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if value is None:
        raise missing("input")
    messages: list[Document] = []
    for field, item in read_objects(value, "input"):
        kind = word(item.get("type", "message"))
        read = _ITEMS.get(kind)
        if read is None:
            raise unsupported(f"{field}.type", f"allowed are {', '.join(_ITEMS)}")
        read(messages, item, field)
    if not messages:
        raise wrong("input", "must be a string or a list of at least one message")
    return messages


def _add_message(messages: list[Document], item: Document, field: str) -> None:
    role = item.get("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise wrong(f"{field}.role", "must be user, assistant, system or developer")
    content = item.get("content")
    if not isinstance(content, str):
        parts = [_part(part, at) for at, part in read_objects(content, f"{field}.content")]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        # What is text alone is sent as a string: not every engine takes parts from everybody.
        content = parts if len(texts) < len(parts) else "\n".join(texts) if role != "assistant" else "".join(texts)
    messages.append({"role": "system" if role == "developer" else role, "content": content})


def _part(part: Document, field: str) -> Document:
    kind = part.get("type")
    if kind in ("input_text", "output_text"):
        return {"type": "text", "text": read_text(part, "text", field)}
    if kind == "refusal":
        return {"type": "text", "text": read_text(part, "refusal", field)}
    if kind == "input_image":
        if not isinstance(part.get("image_url"), str):
            raise unsupported(field, "`image_url` is required; files are not stored")
        detail = {"detail": part["detail"]} if part.get("detail") not in (None, "auto") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_file":
        if not isinstance(part.get("file_data"), str):
            raise unsupported(field, "`file_data` is required; files are not stored")
        named = {"filename": part["filename"]} if isinstance(part.get("filename"), str) else {}
        return {"type": "file", "file": {**named, "file_data": part["file_data"]}}
    raise unsupported(f"{field}.type", "allowed are input_text, input_image, input_file, output_text and refusal")


def _add_call(messages: list[Document], item: Document, field: str) -> None:
    function = {"name": read_text(item, "name", field), "arguments": read_text(item, "arguments", field)}
    call = {"id": read_text(item, "call_id", field), "type": "function", "function": function}
    if messages and messages[-1]["role"] == "assistant":
        # What the model said and called in one turn is one message of chat.
        messages[-1].setdefault("tool_calls", []).append(call)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _add_result(messages: list[Document], item: Document, field: str) -> None:
    output = item.get("output")
    if not isinstance(output, str):
        parts = [_part(part, at) for at, part in read_objects(output, f"{field}.output")]
        if any(part["type"] != "text" for part in parts):
            raise unsupported(f"{field}.output", "only text is allowed")
        output = "\n".join(part["text"] for part in parts)
    messages.append({"role": "tool", "tool_call_id": read_text(item, "call_id", field), "content": output})


def _skip(messages: list[Document], item: Document, field: str) -> None:
    """Leave out earlier reasoning: models are not given it again in chat."""


_ITEMS: Final[dict[str, Callable[[list[Document], Document, str], None]]] = {
    "message": _add_message,
    "function_call": _add_call,
    "function_call_output": _add_result,
    "reasoning": _skip,
}


def _add_text(request: Document, config: Document) -> None:
    if config.get("verbosity") is not None:
        request["verbosity"] = config["verbosity"]
    if config.get("format") is None:
        return
    wanted = read_object(config["format"], "text.format")
    kind = wanted.get("type")
    if kind == "json_object":
        request["response_format"] = {"type": kind}
    elif kind == "json_schema":
        read_object(wanted.get("schema"), "text.format.schema")
        schema = {key: value for key, value in wanted.items() if key != "type" and value is not None}
        request["response_format"] = {"type": kind, "json_schema": {"name": "answer", **schema}}
    elif kind != "text":
        raise wrong("text.format.type", "must be text, json_object or json_schema")


def _add_tools(request: Document, document: Document) -> None:
    tools = document.get("tools")
    if not tools:
        request.pop("parallel_tool_calls", None)
        return
    request["tools"] = [_tool(tool, field) for field, tool in read_objects(tools, "tools")]
    choice = document.get("tool_choice")
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            raise unsupported("tool_choice.type", _NO_TOOL)
        request["tool_choice"] = {"type": "function", "function": {"name": read_text(choice, "name", "tool_choice")}}
    elif choice is not None:
        if choice not in ("auto", "none", "required"):
            raise wrong("tool_choice", "must be auto, none, required or a function")
        request["tool_choice"] = choice


def _tool(tool: Document, field: str) -> Document:
    if tool.get("type") != "function":
        raise unsupported(f"{field}.type", _NO_TOOL)
    function: Document = {"name": read_text(tool, "name", field)}
    for key in ("description", "parameters", "strict"):
        if tool.get(key) is not None:
            function[key] = tool[key]
    return {"type": "function", "function": function}
