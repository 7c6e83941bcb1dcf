"""The items of `input`, one after the other, as messages of chat."""

from collections.abc import Callable
from typing import Any, Final

from capstan_gateway.dialects.clients.responses_arguments import MEMBER
from capstan_gateway.dialects.clients.responses_tools import ToolKind, Tools, read_namespace
from capstan_gateway.dialects.fields import (
    Document,
    missing,
    read_object,
    read_objects,
    read_text,
    unsupported,
    word,
    wrong,
)
from capstan_gateway.dialects.signatures import is_ours, read_signature
from capstan_gateway.documents import to_json

_IMAGE: Final = "(image)"
_FILE: Final = "(file)"
_NO_TOOLS: Final = "No tools were found."
_HOSTED_CALLS: Final = frozenset(
    (
        "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "computer_call",
        "computer_call_output", "mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response",
    )
)  # fmt: skip
"""What a hosted API did by itself, or wanted to: the answer that came of it is in a message."""


def to_messages(value: Any, tools: Tools) -> list[Document]:
    """Translate `input`; InvalidRequest names the item that cannot be."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if value is None:
        raise missing("input")
    turns = _Turns(tools)
    for field, item in read_objects(value, "input"):
        turns.add(item, field)
    messages = turns.end()
    if not messages:
        raise wrong("input", "must be a string or a list of at least one message")
    return messages


class _Turns:
    """A conversation that grows item by item."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._messages: list[Document] = []
        self._seen: list[Document] = []
        """Images and files that tools gave: chat takes them from the user, behind all results of a turn."""
        self._thought: list[str] = []
        """What was thought since the last message."""
        self._thoughts: list[tuple[Document, list[str]]] = []
        """Messages of the assistant, with all that was thought before they were whole: joined in the end, or a long
        turn would be copied for each of its calls."""
        self._said: list[tuple[Document, list[Any]]] = []
        """Messages of the assistant, with all that they say before and behind their calls: joined in the end, too."""
        self._signed: Document = {}
        """What an engine wants to see again with the call that follows."""

    def add(self, item: Document, field: str) -> None:
        """Take the next item."""
        kind = word(item.get("type", "message"))
        if kind in _HOSTED_CALLS:
            return
        read = _ITEMS.get(kind)
        if read is None:
            instead = f"allowed are {', '.join(_ITEMS)}"
            raise unsupported(f"{field}.type", _STORED.get(kind, instead))
        read(self, item, field)

    def end(self) -> list[Document]:
        """Give the messages; there are no more items."""
        self._show()
        for message, texts in self._thoughts:
            message["reasoning_content"] = "\n".join(texts)
        for message, contents in self._said:
            message["content"] = _joined(contents)
        return self._messages

    def message(self, item: Document, field: str) -> None:
        """Take what somebody said."""
        role = item.get("role")
        if role not in ("user", "assistant", "system", "developer"):
            raise wrong(f"{field}.role", "must be user, assistant, system or developer")
        content = item.get("content")
        if not isinstance(content, str):
            parts = [read_part(part, at) for at, part in read_objects(content, f"{field}.content")]
            texts = [part["text"] for part in parts if part["type"] == "text"]
            # What is text alone is sent as a string: not every engine takes parts from everybody.
            content = parts if len(texts) < len(parts) else "\n".join(texts) if role != "assistant" else "".join(texts)
        self._show()
        before = self._messages[-1] if self._messages else {}
        if role == "assistant" and before.get("tool_calls"):
            # Said behind a call, in the same turn: in chat the results of the call must follow it.
            if not self._said or self._said[-1][0] is not before:
                self._said.append((before, [before["content"]]))
            self._said[-1][1].append(content)
            self._thinking(before)
            return
        message = {"role": "system" if role == "developer" else role, "content": content}
        self._messages.append(self._thinking(message))

    def function_call(self, item: Document, field: str) -> None:
        """Take a call of a function."""
        name = read_text(item, "name", field)
        called = self._tools.chat_name(ToolKind.FUNCTION, name, read_namespace(item, field))
        arguments = item.get("arguments")
        if isinstance(arguments, dict):
            arguments = to_json(arguments).decode()
        elif not isinstance(arguments, str):
            raise wrong(f"{field}.arguments", "must be a string")
        # Some engines parse the arguments of the history, and fail where there are none.
        self._call(item, field, called, arguments if arguments.strip() else "{}")

    def custom_call(self, item: Document, field: str) -> None:
        """Take a call of a tool that takes plain text."""
        name = read_text(item, "name", field)
        called = self._tools.chat_name(ToolKind.CUSTOM, name, read_namespace(item, field))
        self._call(item, field, called, to_json({MEMBER: read_text(item, "input", field)}).decode())

    def search_call(self, item: Document, field: str) -> None:
        """Take a search for tools; one that the API's host made is left out."""
        if item.get("call_id") is not None:
            arguments = to_json(read_object(item.get("arguments") or {}, f"{field}.arguments")).decode()
            self._call(item, field, self._tools.chat_name(ToolKind.SEARCH, ToolKind.SEARCH.value), arguments)

    def search_output(self, item: Document, field: str) -> None:
        """Take what a search found: the tools themselves are among the request's."""
        if item.get("call_id") is not None:
            at = f"{field}.tools"
            found = [name for key, tool in read_objects(item.get("tools") or [], at) for name in self._found(tool, key)]
            text = f"Tools found: {', '.join(found)}" if found else _NO_TOOLS
            self._result(read_text(item, "call_id", field), text)

    def shell_call(self, item: Document, field: str) -> None:
        """Take a command that the client ran."""
        action = read_object(item.get("action"), f"{field}.action")
        given = {
            "command": action.get("command"), "workdir": action.get("working_directory"),
            "timeout_ms": action.get("timeout_ms"),
        }  # fmt: skip
        arguments = to_json({key: value for key, value in given.items() if value is not None}).decode()
        self._call(item, field, self._tools.chat_name(ToolKind.SHELL, ToolKind.SHELL.value), arguments)

    def output(self, item: Document, field: str) -> None:
        """Take what a tool gave."""
        call_id = item.get("call_id") or item.get("id") if item["type"] == "local_shell_call_output" else None
        call_id = call_id if isinstance(call_id, str) else read_text(item, "call_id", field)
        output = item.get("output")
        if not isinstance(output, str):
            parts = [read_part(part, at) for at, part in read_objects(output, f"{field}.output")]
            texts = [part["text"] for part in parts if part["type"] == "text"]
            others = [part for part in parts if part["type"] != "text"]
            self._seen.extend(others)
            if others and not any(texts):
                texts = [_IMAGE if part["type"] == "image_url" else _FILE for part in others]
            output = "\n".join(texts)
        self._result(call_id, output)

    def skip(self, item: Document, field: str) -> None:
        """Leave an item out: tools are read elsewhere."""

    def reasoning(self, item: Document, field: str) -> None:  # noqa: ARG002 - one signature
        """Take what the model thought before its next message or call; what has no text only OpenAI can read."""
        signature = item.get("encrypted_content")
        if isinstance(signature, str) and is_ours(signature):
            self._signed = read_signature(signature)
        for name in ("content", "summary"):
            parts = item.get(name)
            found = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
            if texts := [text for text in found if isinstance(text, str) and text]:
                self._thought += texts
                return

    def _thinking(self, message: Document) -> Document:
        """Put what was thought into the assistant's message that follows it. Targets leave it out, or pass it on."""
        if self._thought and message["role"] == "assistant":
            if self._thoughts and self._thoughts[-1][0] is message:
                self._thoughts[-1][1].extend(self._thought)
            else:
                self._thoughts.append((message, self._thought))
        self._thought = []
        return message

    def _found(self, tool: Document, field: str) -> list[str]:
        """Give the names by which the model calls what was found."""
        space = word(tool.get("name")) if tool.get("type") == "namespace" else None
        inner = [(field, tool)] if space is None else read_objects(tool.get("tools") or [], f"{field}.tools")
        kinds = (ToolKind.FUNCTION.value, ToolKind.CUSTOM.value)
        return [
            self._tools.chat_name(ToolKind(one["type"]), word(one.get("name")), space)
            for _, one in inner
            if one.get("type") in kinds
        ]

    def _call(self, item: Document, field: str, name: str, arguments: str) -> None:
        call_id = read_text(item, "call_id", field)
        call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **self._signed}
        self._signed = {}
        self._show()
        if self._messages and self._messages[-1]["role"] == "assistant":
            # What the model said and called in one turn is one message of chat.
            self._thinking(self._messages[-1]).setdefault("tool_calls", []).append(call)
        else:
            self._messages.append(self._thinking({"role": "assistant", "content": None, "tool_calls": [call]}))

    def _result(self, call_id: str, text: str) -> None:
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": text})

    def _show(self) -> None:
        if self._seen:
            self._messages.append({"role": "user", "content": self._seen})
            self._seen = []


def _joined(contents: list[Any]) -> Any:
    """Give what the assistant said before and behind its calls as one content."""
    said = [content for content in contents if content]
    if all(isinstance(content, str) for content in said):
        return "".join(said) or contents[-1]
    return [part for one in said for part in ([{"type": "text", "text": one}] if isinstance(one, str) else one)]


def read_part(part: Document, field: str) -> Document:
    """Translate a part of a message, or of a tool's output; InvalidRequest names what cannot be."""
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text"):
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
    if kind == "input_audio":
        return {"type": kind, "input_audio": read_object(part.get("input_audio"), f"{field}.input_audio")}
    allowed = "allowed are input_text, input_image, input_audio, input_file, output_text and refusal"
    raise unsupported(f"{field}.type", allowed)


_ITEMS: Final[dict[str, Callable[[_Turns, Document, str], None]]] = {
    "message": _Turns.message,
    "function_call": _Turns.function_call,
    "function_call_output": _Turns.output,
    "custom_tool_call": _Turns.custom_call,
    "custom_tool_call_output": _Turns.output,
    "local_shell_call": _Turns.shell_call,
    "local_shell_call_output": _Turns.output,
    "tool_search_call": _Turns.search_call,
    "tool_search_output": _Turns.search_output,
    "additional_tools": _Turns.skip,
    "reasoning": _Turns.reasoning,
}
_STORED: Final = {
    "item_reference": "nothing is stored; send the item itself, as the AI SDK does with `store: false`",
    "compaction": "only who made a compaction can read it; send the conversation",
}
