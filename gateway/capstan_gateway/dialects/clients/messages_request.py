"""An Anthropic messages request as a chat completion request.

Fields of theirs that only hint (caching, thinking, service tier) are left out; those that change the answer and have no
counterpart are refused by name. Fields that neither API knows pass through, as on every route.
"""

from typing import Any, Final, NamedTuple

from capstan_gateway.dialects.clients.port import DroppedTool
from capstan_gateway.dialects.fields import (
    Document,
    Retrieved,
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
from capstan_gateway.dialects.signatures import is_ours, read_signature
from capstan_gateway.dialects.targets.media import fitting_file
from capstan_gateway.documents import to_json

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
_LEFT_OUT: Final = frozenset(("redacted_thinking", "server_tool_use"))
"""Of an assistant: what only Anthropic can read, or has run itself."""
BILLING: Final = "x-anthropic-billing-header:"
"""Claude Code's first line of a system prompt. It has a hash that changes, and so no engine finds the prompt in its
cache (vllm-project/vllm PR 36829, anthropics/claude-code issue 68900)."""
_CALLED: Final = ("bash_", "computer_", "memory_", "text_editor_")
"""Tools of Anthropic's that the client runs. Their schemas are in the models that know them, and in no request."""


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
        texts = [_unbilled(value)]
    else:
        texts = [_unbilled(_text(block, field)) for field, block in read_objects(value, "system")]
    return _said(texts)


def _said(texts: list[str]) -> list[Document]:
    text = "\n".join(text for text in texts if text)
    return [{"role": "system", "content": text}] if text else []


def _unbilled(text: str) -> str:
    """Leave out the first line where it is about billing."""
    return text.partition("\n")[2].lstrip("\n") if text.startswith(BILLING) else text


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
        elif role in ("system", "developer"):
            turns.extend(_said([_unbilled(_text(block, at)) for at, block in blocks]))
        else:
            raise wrong(f"{field}.role", "must be user, assistant, system or developer")
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
        kind = word(block.get("type"))
        if kind == "tool_result":
            text, others = _tool_result(block, field)
            results.append({"role": "tool", "tool_call_id": read_text(block, "tool_use_id", field), "content": text})
            # NB: in chat the result of a tool is text; its images follow as the user's.
            parts.extend(others)
        else:
            parts.append(_part(block, field))
    parts = [part for part in parts if part.get("text") != ""] or parts[:1]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return [*results, {"role": "user", "content": parts[0]["text"]}]
    return [*results, {"role": "user", "content": parts}] if parts else results


def _tool_result(block: Document, field: str) -> tuple[str, list[Document]]:
    content = block.get("content")
    if content is None:
        return "", []
    parts = [_part(inner, at) for at, inner in _blocks(content, f"{field}.content")]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    others = [part for part in parts if part["type"] != "text"]
    text = "\n".join(texts) or ("[image follows]" if others else "")
    return (f"Error: {text}" if block.get("is_error") is True else text), others


def _part(block: Document, field: str) -> Document:
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": read_text(block, "text", field)}
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": _url(block, field)}}
    if kind == "document":
        return _document(block, field)
    if kind == "tool_reference":
        return {"type": "text", "text": f"[tool: {read_text(block, 'tool_name', field)}]"}
    if kind == "search_result":
        return {"type": "text", "text": Retrieved(_search_result(block, field))}
    raise unsupported(f"{field}.type", "allowed are text, image, document, search_result and tool_result")


def _search_result(block: Document, field: str) -> str:
    heads = [block[name] for name in ("title", "source") if isinstance(block.get(name), str)]
    texts = [_text(inner, at) for at, inner in _blocks(block.get("content"), f"{field}.content")]
    return "\n".join((*heads, *texts))


def _url(block: Document, field: str) -> str:
    source = read_object(block.get("source"), f"{field}.source")
    if source.get("type") == "base64":
        kind, data = (read_text(source, name, f"{field}.source") for name in ("media_type", "data"))
        return data_url(*fitting_file(kind, data))
    if source.get("type") == "url":
        return read_text(source, "url", f"{field}.source")
    raise unsupported(f"{field}.source.type", "allowed are base64 and url")


def _document(block: Document, field: str) -> Document:
    source = read_object(block.get("source"), f"{field}.source")
    if source.get("type") == "text":
        return {"type": "text", "text": Retrieved(read_text(source, "data", f"{field}.source"))}
    if source.get("type") != "base64":
        raise unsupported(f"{field}.source.type", "allowed are base64 and text")
    title = block.get("title")
    name = title if isinstance(title, str) and title else "document.pdf"
    return {"type": "file", "file": {"filename": name, "file_data": _url(block, field)}}


def _assistant_turns(blocks: list[tuple[str, Document]]) -> list[Document]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Document] = []
    signed: Document = {}
    for field, block in blocks:
        kind = word(block.get("type"))
        if kind == "text":
            texts.append(read_text(block, "text", field))
        elif kind == "tool_use":
            arguments = _arguments(block.get("input"), f"{field}.input")
            function = {"name": read_text(block, "name", field), "arguments": arguments}
            calls.append({"id": read_text(block, "id", field), "type": "function", "function": function, **signed})
            signed = {}
        elif kind == "thinking":
            thoughts.append(read_text(block, "thinking", field))
            signed = (read_signature(block["signature"]) if is_ours(block.get("signature")) else {}) or signed
        elif kind not in _LEFT_OUT and not kind.endswith("_tool_result"):
            raise unsupported(f"{field}.type", "allowed are text, tool_use and thinking")
    text, thought = "".join(texts), "\n".join(one for one in thoughts if one)
    if not text and not calls and not thought:
        return []
    message: Document = {"role": "assistant", "content": text if text or not calls else None}
    if thought:
        message["reasoning_content"] = thought  # The room of targets leaves it out for models that want none of it.
    return [{**message, "tool_calls": calls} if calls else message]


def _arguments(given: Any, field: str) -> str:
    """Write a call's input as chat does. Some clients keep it as the text that a model once wrote."""
    return given if isinstance(given, str) else to_json(read_object(given, field)).decode()


class MessagesTools(NamedTuple):
    """What is to be known of the tools of a request; `port.ClientTools`."""

    dropped: tuple[DroppedTool, ...]


def hosted_tools(document: Document) -> tuple[DroppedTool, ...]:
    """The tools that only Anthropic runs, which a translation leaves out."""
    tools = document.get("tools")
    given = enumerate(tools) if isinstance(tools, list) else ()
    return tuple(DroppedTool(f"tools.{place}", tool["type"]) for place, tool in given if _is_hosted(tool))


def _is_hosted(tool: Any) -> bool:
    kind = tool.get("type") if isinstance(tool, dict) else None
    return isinstance(kind, str) and kind not in ("", "custom", "function") and not kind.startswith(_CALLED)


def _add_tools(request: Document, document: Document) -> None:
    given = read_objects(document.get("tools") or [], "tools")
    tools = [_tool(tool, field) for field, tool in given if not _is_hosted(tool)]
    if tools:
        request["tools"] = tools
    if document.get("tool_choice") is None or not tools:
        # Both APIs have a default that fits; chat refuses a choice among no tools.
        return
    choice = read_object(document["tool_choice"], "tool_choice")
    kind = word(choice.get("type"))
    if kind == "tool":
        name = read_text(choice, "name", "tool_choice")
        if any(_is_hosted(tool) and tool.get("name") == name for _, tool in given):
            raise unsupported("tool_choice.name", "the model has no such tool: only a hosted API runs it")
        request["tool_choice"] = {"type": "function", "function": {"name": name}}
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
    schema = read_object(tool.get("input_schema"), f"{field}.input_schema")
    function["parameters"] = {key: value for key, value in schema.items() if key != "$schema"}
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
