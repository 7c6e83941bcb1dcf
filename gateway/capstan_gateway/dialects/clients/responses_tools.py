"""The tools of a request of the Responses API, which has several kinds, as functions, the one kind that chat has.

    function                   itself
    function in a namespace    a function `<namespace>__<name>`
    custom (plain text)        a function of one string, `input`
    tool_search of the client  a function with its parameters
    local_shell                a function with a command
    web_search and its like    none: who runs them is the API's own host

The way back is a table made of the request, so names are never split, and nothing is kept between requests.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from capstan_gateway.dialects.clients.port import DroppedTool
from capstan_gateway.dialects.clients.responses_arguments import MEMBER
from capstan_gateway.dialects.fields import Document, read_objects, read_text, unsupported, word, wrong


class ToolKind(Enum):
    """Kinds of tools that the client runs."""

    FUNCTION = "function"
    CUSTOM = "custom"
    SEARCH = "tool_search"
    SHELL = "local_shell"


_KINDS: Final = {kind.value: kind for kind in ToolKind}
_HOSTED: Final = (
    "web_search", "file_search", "code_interpreter", "image_generation", "mcp", "computer", "shell", "apply_patch",
)  # fmt: skip
"""Types of tools that no engine runs, and for which chat has no form. Later versions have a suffix."""
_HOLDERS: Final = frozenset(("additional_tools", "tool_search_output"))
"""Types of input items that bring further tools."""
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST: Final = 64
"""Characters of a function's name that OpenAI and Anthropic take."""
_SHELL_DESCRIPTION: Final = "Runs a command on the user's machine and gives its output."
_SHELL_PARAMETERS: Final = {
    "type": "object",
    "properties": {
        "command": {"type": "array", "items": {"type": "string"}, "description": "The program and its arguments."},
        "workdir": {"type": "string", "description": "The directory to run it in."},
        "timeout_ms": {"type": "integer", "description": "How long it may run, in milliseconds."},
    },
    "required": ["command"],
    "additionalProperties": False,
}  # fmt: skip

Key = tuple[ToolKind, str | None, str]
"""What a client knows a tool by: kind, namespace, name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool that the client runs."""

    kind: ToolKind
    name: str
    namespace: str | None
    chat_name: str
    """What the model calls it."""
    fields: Document
    """Of the function beside its name."""

    @property
    def function(self) -> Document:
        """The tool as chat has it."""
        return {"type": "function", "function": {"name": self.chat_name, **self.fields}}


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of one request, in their order."""

    tools: tuple[Tool, ...]
    dropped: tuple[DroppedTool, ...]
    by_key: dict[Key, Tool]
    by_chat_name: dict[str, Tool]

    @classmethod
    def of(cls, request: Document) -> "Tools":
        """Read them; InvalidRequest names the field of one that is none."""
        found: dict[Key, _Definition] = {}
        dropped: list[DroppedTool] = []
        for definition in _definitions(request):
            if isinstance(definition, DroppedTool):
                dropped.append(definition)
            else:
                # A search may find a tool that is there already: the first one stays, so that prompts stay the same.
                found.setdefault(definition.key, definition)
        names = _chat_names(found)
        tools = tuple(
            Tool(kind=key[0], namespace=key[1], name=key[2], chat_name=names[key], fields=_function_fields(definition))
            for key, definition in found.items()
        )
        by_key = {(tool.kind, tool.namespace, tool.name): tool for tool in tools}
        return cls(tools, tuple(dropped), by_key, {tool.chat_name: tool for tool in tools})

    def chat_name(self, kind: ToolKind, name: str, namespace: str | None = None) -> str:
        """Give what the model calls a tool of the history, which need not be among the request's any more."""
        tool = self.by_key.get((kind, namespace, name))
        return _flat(name, namespace) if tool is None else tool.chat_name

    def named(self, choice: Document, field: str) -> tuple[Tool, ...]:
        """Give the tools that a choice means, none for a hosted one; InvalidRequest when there is no such tool."""
        kind = choice.get("type")
        if _is_hosted(kind):
            return ()
        if kind == "namespace":
            found = [tool for tool in self.tools if tool.namespace == choice.get("name")]
        elif kind in (ToolKind.SEARCH.value, ToolKind.SHELL.value):
            found = [tool for tool in self.tools if tool.kind.value == kind]
        elif kind in (ToolKind.FUNCTION.value, ToolKind.CUSTOM.value):
            name, space = read_text(choice, "name", field), choice.get("namespace")
            same = [tool for tool in self.tools if name in (tool.name, tool.chat_name) and tool.kind.value == kind]
            exact = [tool for tool in same if tool.namespace == space]
            found = exact or [tool for tool in same if space is None]
        else:
            raise unsupported(f"{field}.type", f"allowed are {', '.join(_KINDS)}, namespace and allowed_tools")
        if not found:
            raise wrong(field, "must name one of `tools`")
        return tuple(found)


def read_namespace(item: Document, field: str) -> str | None:
    """Give the namespace of a call; None for a plain one."""
    return read_text(item, "namespace", field) if item.get("namespace") is not None else None


class _Definition(NamedTuple):
    key: Key
    tool: Document
    about: str
    """What the client says of the namespace."""


def _definitions(request: Document) -> Iterator[_Definition | DroppedTool]:
    yield from _each(request.get("tools") or [], "tools")
    items = request.get("input")
    if not isinstance(items, list):
        return
    for at, item in enumerate(items):
        if isinstance(item, dict) and word(item.get("type")) in _HOLDERS:
            yield from _each(item.get("tools") or [], f"input.{at}.tools")


def _each(tools: Any, at: str, space: Document | None = None) -> Iterator[_Definition | DroppedTool]:
    namespace = None if space is None else str(space["name"])
    about = word((space or {}).get("description"))
    for field, tool in read_objects(tools, at):
        kind = word(tool.get("type"))
        if kind == "namespace" and space is None:
            read_text(tool, "name", field)
            yield from _each(tool.get("tools") or [], f"{field}.tools", tool)
        elif _is_hosted(kind) or (kind == ToolKind.SEARCH.value and tool.get("execution") != "client"):
            yield DroppedTool(field, kind)
        elif kind in (ToolKind.FUNCTION.value, ToolKind.CUSTOM.value):
            yield _Definition((_KINDS[kind], namespace, read_text(tool, "name", field)), tool, about)
        elif kind in _KINDS and space is None:
            yield _Definition((_KINDS[kind], None, kind), tool, about)
        else:
            raise unsupported(f"{field}.type", f"allowed are {', '.join(_KINDS)}, namespace and {', '.join(_HOSTED)}")


def _is_hosted(kind: object) -> bool:
    return isinstance(kind, str) and any(kind == hosted or kind.startswith(f"{hosted}_") for hosted in _HOSTED)


def _function_fields(definition: _Definition) -> Document:
    kind, tool, about = definition.key[0], definition.tool, definition.about
    if kind is ToolKind.SHELL:
        return {"description": _SHELL_DESCRIPTION, "parameters": _SHELL_PARAMETERS}
    fields = {key: tool[key] for key in ("description", "parameters", "strict") if tool.get(key) is not None}
    if kind is ToolKind.CUSTOM:
        fields = {"parameters": _custom_parameters(tool), "description": fields.get("description")}
    if about:
        own = fields.get("description")
        fields["description"] = f"{about}\n\n{own}" if isinstance(own, str) and own else about
    return {key: fields[key] for key in ("description", "parameters", "strict") if fields.get(key) is not None}


def _custom_parameters(tool: Document) -> Document:
    """One string; engines that know no grammars are told of it in words."""
    wanted = "The whole input of the tool, as plain text."
    form = tool.get("format")
    if isinstance(form, dict) and form.get("type") == "grammar":
        syntax = word(form.get("syntax")) or "lark"
        wanted += f" It must follow this grammar ({syntax}):\n{word(form.get('definition'))}"
    return {
        "type": "object", "properties": {MEMBER: {"type": "string", "description": wanted}}, "required": [MEMBER],
        "additionalProperties": False,
    }  # fmt: skip


def _chat_names(keys: dict[Key, Any]) -> dict[Key, str]:
    """Give each tool a name of its own. Those without a namespace have the first choice: models know them."""
    names: dict[Key, str] = {}
    taken: set[str] = set()
    for key in sorted(keys, key=lambda key: key[1] is not None):
        kind, namespace, name = key
        chat_name, attempt = _flat(name, namespace), 0
        while chat_name in taken:
            attempt += 1
            chat_name = _shortened(_flat(name, namespace), f"{kind.value}/{namespace}/{name}/{attempt}")
        taken.add(chat_name)
        names[key] = chat_name
    return names


def _flat(name: str, namespace: str | None) -> str:
    if namespace is None:
        return name
    whole = f"{namespace}__{name}"
    fitting = _ODD.sub("_", whole)
    # NB: two names that differ only in what does not fit must stay two.
    return fitting if fitting == whole and len(whole) <= _LONGEST else _shortened(fitting, whole)


def _shortened(name: str, whole: str) -> str:
    mark = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: _LONGEST - 9]}_{mark}"
