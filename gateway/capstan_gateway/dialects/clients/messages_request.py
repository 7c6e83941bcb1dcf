"""An Anthropic messages request as a chat completion request.

Fields of theirs that only hint (caching, thinking, service tier) are left out; those that change the answer and have no
counterpart are refused by name. Fields that neither API knows pass through, as on every route.
"""

from typing import Any, Final

import orjson

from capstan_gateway.dialects.fields import (
    Document,
    data_url,
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
    ("cache_control", "context_management", "diagnostics", "inference_geo", "service_tier", "speed", "thinking")
)
_REFUSED: Final = ("container", "mcp_servers")
_TRANSLATED: Final = frozenset(
    (
        "max_tokens", "messages", "metadata", "output_config", "output_format", "stop_sequences", "stream", "system",
        "tool_choice", "tools",
    )
)  # fmt: skip
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}
_EFFORTS: Final = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_THOUGHTS: Final = frozenset(("thinking", "redacted_thinking"))


def to_chat_request(document: Document) -> Document:
    """Translate a request; InvalidRequest names the field that cannot be."""
    for field in _REFUSED:
        if document.get(field):
            raise unsupported(field, "leave it out")
    if document.get("max_tokens") is None:
        raise missing("max_tokens")
    request: Document = {key: value for key, value in document.items() if key not in _TRANSLATED and key not in _HINTS}
    request["messages"] = [*_system(document.get("system")), *_turns(document.get("messages"))]
    request["max_tokens"] = read_limit(document["max_tokens"], "max_tokens")
    if read_switch(document, "stream"):
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    if document.get("stop_sequences"):
        request["stop"] = document["stop_sequences"]
    if document.get("metadata") is not None:
        user = read_object(document["metadata"], "metadata").get("user_id")
        request |= {"user": user} if isinstance(user, str) else {}
    _add_tools(request, document)
    _add_output(request, document)
    return request


def _system(value: Any) -> list[Document]:
    if value is None or value == "" or value == []:
        return []
    if isinstance(value, str):
        return [{"role": "system", "content": value}]
    texts = [_text(block, field) for field, block in read_objects(value, "system")]
    return [{"role": "system", "content": "\n".join(texts)}]


def _text(block: Document, field: str) -> str:
    if block.get("type") != "text":
        raise unsupported(f"{field}.type", "only text is allowed here")
    return read_text(block, "text", field)


def _turns(value: Any) -> list[Document]:
    if not isinstance(value, list) or not value:
        raise wrong("messages", "must be a list of at least one message")
    turns: list[Document] = []
    for field, message in read_objects(value, "messages"):
        role = message.get("role")
        blocks = _blocks(message.get("content"), f"{field}.content")
        if role == "user":
            turns.extend(_user_turns(blocks))
        elif role == "assistant":
            turns.extend(_assistant_turns(blocks))
        elif role == "system":
            turns.extend(_system([block for _, block in blocks]))
        else:
            raise wrong(f"{field}.role", "must be user or assistant")
    return turns


def _blocks(content: Any, field: str) -> list[tuple[str, Document]]:
    if isinstance(content, str):
        return [(field, {"type": "text", "text": content})]
    return read_objects(content, field)


def _user_turns(blocks: list[tuple[str, Document]]) -> list[Document]:
    """The results of tools, which chat wants first and each as a message of its own, then what the user says."""
    results: list[Document] = []
    parts: list[Document] = []
    for field, block in blocks:
        if block.get("type") == "tool_result":
            text, others = _tool_result(block, field)
            results.append({"role": "tool", "tool_call_id": read_text(block, "tool_use_id", field), "content": text})
            # NB: in chat the result of a tool is text; its images follow as the user's.
            parts.extend(others)
        else:
            parts.append(_part(block, field))
    if len(parts) == 1 and parts[0]["type"] == "text":
        return [*results, {"role": "user", "content": parts[0]["text"]}]
    return [*results, {"role": "user", "content": parts}] if parts else results


def _tool_result(block: Document, field: str) -> tuple[str, list[Document]]:
    content = block.get("content")
    if content is None:
        return "", []
    parts = [_part(inner, at) for at, inner in _blocks(content, f"{field}.content")]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts), [part for part in parts if part["type"] != "text"]


def _part(block: Document, field: str) -> Document:
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": read_text(block, "text", field)}
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": _url(block, field)}}
    if kind == "document":
        return _document(block, field)
    raise unsupported(f"{field}.type", "allowed are text, image, document and tool_result")


def _url(block: Document, field: str) -> str:
    source = read_object(block.get("source"), f"{field}.source")
    if source.get("type") == "base64":
        return data_url(
            read_text(source, "media_type", f"{field}.source"), read_text(source, "data", f"{field}.source")
        )
    if source.get("type") == "url":
        return read_text(source, "url", f"{field}.source")
    raise unsupported(f"{field}.source.type", "allowed are base64 and url")


def _document(block: Document, field: str) -> Document:
    source = read_object(block.get("source"), f"{field}.source")
    if source.get("type") == "text":
        return {"type": "text", "text": read_text(source, "data", f"{field}.source")}
    if source.get("type") != "base64":
        raise unsupported(f"{field}.source.type", "allowed are base64 and text")
    title = block.get("title")
    name = title if isinstance(title, str) and title else "document.pdf"
    return {"type": "file", "file": {"filename": name, "file_data": _url(block, field)}}


def _assistant_turns(blocks: list[tuple[str, Document]]) -> list[Document]:
    texts: list[str] = []
    calls: list[Document] = []
    for field, block in blocks:
        kind = word(block.get("type"))
        if kind == "text":
            texts.append(read_text(block, "text", field))
        elif kind == "tool_use":
            arguments = orjson.dumps(read_object(block.get("input"), f"{field}.input")).decode()
            function = {"name": read_text(block, "name", field), "arguments": arguments}
            calls.append({"id": read_text(block, "id", field), "type": "function", "function": function})
        elif kind not in _THOUGHTS:
            raise unsupported(f"{field}.type", "allowed are text, tool_use and thinking")
    if not texts and not calls:
        return []
    message: Document = {"role": "assistant", "content": "".join(texts) if texts else None}
    return [{**message, "tool_calls": calls} if calls else message]


def _add_tools(request: Document, document: Document) -> None:
    tools = document.get("tools")
    if tools:
        request["tools"] = [_tool(tool, field) for field, tool in read_objects(tools, "tools")]
    if document.get("tool_choice") is None or not tools:
        # Both APIs have a default that fits; chat refuses a choice among no tools.
        return
    choice = read_object(document["tool_choice"], "tool_choice")
    kind = word(choice.get("type"))
    if kind == "tool":
        request["tool_choice"] = {"type": "function", "function": {"name": read_text(choice, "name", "tool_choice")}}
    elif kind in _CHOICES:
        request["tool_choice"] = _CHOICES[kind]
    else:
        raise wrong("tool_choice.type", "must be auto, any, tool or none")
    if choice.get("disable_parallel_tool_use"):
        request["parallel_tool_calls"] = False


def _tool(tool: Document, field: str) -> Document:
    if tool.get("type") not in (None, "custom"):
        raise unsupported(f"{field}.type", "only tools of the client's own (type custom) are allowed")
    function: Document = {"name": read_text(tool, "name", field)}
    if tool.get("description"):
        function["description"] = tool["description"]
    function["parameters"] = read_object(tool.get("input_schema"), f"{field}.input_schema")
    if isinstance(tool.get("strict"), bool):
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _add_output(request: Document, document: Document) -> None:
    config = read_object(document.get("output_config") or {}, "output_config")
    effort = config.get("effort")
    if effort is not None:
        if word(effort) not in _EFFORTS:
            raise wrong("output_config.effort", f"must be one of {', '.join(_EFFORTS)}")
        request["reasoning_effort"] = _EFFORTS[effort]
    wanted, field = config.get("format"), "output_config.format"
    if wanted is None:
        wanted, field = document.get("output_format"), "output_format"
    if wanted is None:
        return
    if read_object(wanted, field).get("type") != "json_schema":
        raise unsupported(f"{field}.type", "only json_schema is allowed")
    schema = {"name": "answer", "schema": read_object(wanted.get("schema"), f"{field}.schema"), "strict": True}
    request["response_format"] = {"type": "json_schema", "json_schema": schema}
