"""A request of OpenAI's Responses API as a chat completion request: its stateless part.

Nothing is stored here, so what refers to something stored is refused. Fields that neither API knows pass through.
"""

from itertools import takewhile
from typing import Any, Final

from capstan_gateway.dialects.clients.responses_input import to_messages
from capstan_gateway.dialects.clients.responses_tools import Tool, Tools
from capstan_gateway.dialects.fields import (
    Document,
    read_limit,
    read_object,
    read_objects,
    read_switch,
    unsupported,
    wrong,
)

_IGNORED: Final = frozenset(
    (
        "client_metadata", "include", "max_tool_calls", "metadata", "prompt_cache_options", "prompt_cache_retention",
        "service_tier", "store", "stream_options",
    )
)  # fmt: skip
_TRANSLATED: Final = frozenset(
    (
        "background", "input", "instructions", "max_output_tokens", "reasoning", "stream", "text",
        "tool_choice", "tools", "top_logprobs", "truncation",
    )
)  # fmt: skip
_STATEFUL: Final = {
    "previous_response_id": "nothing is stored; send the whole conversation as `input`",
    "conversation": "nothing is stored; send the whole conversation as `input`",
    "prompt": "prompts are not stored; send `instructions` and `input`",
    "background": "only false is allowed where no responses are stored; use `stream` for long answers",
    "context_management": "leave it out",
    "moderation": "leave it out",
}
_NUMBER: Final = ((int, float), "must be a number")
_STRING: Final = (str, "must be a string")
_SWITCH: Final = (bool, "must be true or false")
_TYPES: Final[dict[str, tuple[type | tuple[type, ...], str]]] = {
    "temperature": _NUMBER, "top_p": _NUMBER, "presence_penalty": _NUMBER, "frequency_penalty": _NUMBER,
    "instructions": _STRING, "prompt_cache_key": _STRING, "safety_identifier": _STRING, "parallel_tool_calls": _SWITCH,
    "store": _SWITCH, "include": (list, "must be a list"), "metadata": (dict, "must be an object"),
    "max_tool_calls": (int, "must be a whole number"),
    "reasoning": (dict, "must be an object"), "text": (dict, "must be an object"),
}  # fmt: skip
"""Fields that the response repeats, or that are read here."""
_MOST_ALLOWED: Final = 128
"""Tools that `allowed_tools` may name: as many as OpenAI takes in a request. Each is looked for among all tools."""
_LOGPROBS: Final = "message.output_text.logprobs"
_MOST_LOGPROBS: Final = 20


def to_chat_request(document: Document, tools: Tools | None = None) -> Document:
    """Translate a request; InvalidRequest names the field that cannot be. `tools` are its own, read already."""
    _refuse(document)
    dropped = _TRANSLATED | _IGNORED | _STATEFUL.keys()
    request = {key: value for key, value in document.items() if key not in dropped}
    tools = Tools.of(document) if tools is None else tools
    messages = [*_instructions(document.get("instructions")), *to_messages(document.get("input"), tools)]
    request["messages"] = _one_system(messages)
    if document.get("max_output_tokens") is not None:
        request["max_tokens"] = read_limit(document["max_output_tokens"], "max_output_tokens")
    if read_switch(document, "stream"):
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    reasoning = read_object(document.get("reasoning") or {}, "reasoning")
    if reasoning.get("effort") is not None:
        request["reasoning_effort"] = reasoning["effort"]
    _add_text(request, read_object(document.get("text") or {}, "text"))
    _add_tools(request, tools, document.get("tool_choice"))
    _add_logprobs(request, document)
    return request


def _refuse(document: Document) -> None:
    for field, instead in _STATEFUL.items():
        if document.get(field):
            raise unsupported(field, instead)
    for field, (kinds, must) in _TYPES.items():
        value = document.get(field)
        # NB: to Python, true is a number.
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool)):
            raise wrong(field, must)
    if document.get("truncation") not in (None, "auto", "disabled"):
        raise wrong("truncation", "must be auto or disabled")


def _instructions(value: str | None) -> list[Document]:
    return [{"role": "system", "content": value}] if value else []


def _one_system(messages: list[Document]) -> list[Document]:
    """Make one of the system messages at the beginning: many chat templates take no second one."""
    leading = [message["content"] for message in takewhile(lambda message: message["role"] == "system", messages)]
    if len(leading) < 2 or not all(isinstance(content, str) for content in leading):
        return messages
    return [{"role": "system", "content": "\n\n".join(leading)}, *messages[len(leading) :]]


def _add_logprobs(request: Document, document: Document) -> None:
    top = document.get("top_logprobs")
    if top is not None and (type(top) is not int or not 0 <= top <= _MOST_LOGPROBS):
        raise wrong("top_logprobs", f"must be a whole number from 0 to {_MOST_LOGPROBS}")
    if top or _LOGPROBS in (document.get("include") or ()):
        request["logprobs"] = True
        request["top_logprobs"] = top or 0


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


def _add_tools(request: Document, tools: Tools, choice: Any) -> None:
    offered = tools.tools
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        offered, choice = _allowed(tools, choice)
    if isinstance(choice, dict):
        chosen = tools.named(choice, "tool_choice")
        if not chosen:
            raise unsupported("tool_choice.type", "a tool that only a hosted API runs cannot be chosen")
        choice = {"type": "function", "function": {"name": chosen[0].chat_name}}
        if len(chosen) > 1:  # A namespace, or a name that several have: one of these is to be called.
            offered, choice = chosen, "required"
    elif choice not in (None, "auto", "none", "required"):
        raise wrong("tool_choice", "must be auto, none, required or a tool")
    if not offered:
        if choice == "required" and tools.dropped:
            raise unsupported("tool_choice", "none of `tools` is one that the client runs")
        # Chat refuses a choice among no tools.
        request.pop("parallel_tool_calls", None)
        return
    request["tools"] = [tool.function for tool in offered]
    if choice is not None:
        request["tool_choice"] = choice


def _allowed(tools: Tools, choice: Document) -> tuple[tuple[Tool, ...], Any]:
    """Give the tools that are allowed, and how to choose among them: the model is shown no others."""
    if choice.get("mode") not in (None, "auto", "required"):
        raise wrong("tool_choice.mode", "must be auto or required")
    given = choice.get("tools")
    if isinstance(given, list) and len(given) > _MOST_ALLOWED:
        raise wrong("tool_choice.tools", f"must be at most {_MOST_ALLOWED} tools")
    entries = read_objects(given, "tool_choice.tools")
    allowed = {tool.chat_name for field, entry in entries for tool in tools.named(entry, field)}
    return tuple(tool for tool in tools.tools if tool.chat_name in allowed), choice.get("mode") or "auto"
