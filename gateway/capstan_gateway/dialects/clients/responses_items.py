"""The items of a response's `output`: what the model thought, said and called."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import orjson

from capstan_gateway.dialects.clients.responses_arguments import input_text
from capstan_gateway.dialects.clients.responses_tools import Tool, ToolKind
from capstan_gateway.dialects.fields import Document

COMPLETED: Final = "completed"
_SHELLS: Final = ["bash", "-lc"]
"""What runs a command that the model gave as one string."""


def reasoning_item(number: str, index: int, text: str) -> Document:
    """An item of `output` with reasoning, at this place of it."""
    content = [{"type": "reasoning_text", "text": text}]
    return {"id": f"rs_{number}_{index}", "type": "reasoning", "summary": [], "content": content, "status": COMPLETED}


def signature_item(number: str, index: int, signature: str) -> Document:
    """An item of `output` by which the signature of the call behind it comes back with the next request."""
    return {
        "id": f"rs_{number}_{index}", "type": "reasoning", "summary": [], "encrypted_content": signature,
        "status": COMPLETED,
    }  # fmt: skip


def message_item(number: str, index: int, part: Document, status: str) -> Document:
    """An item of `output` with the one part that the assistant says, at this place of it."""
    return {
        "id": f"msg_{number}_{index}", "type": "message", "role": "assistant", "status": status, "content": [part],
    }  # fmt: skip


def text_part(text: str, logprobs: list[Document] | None = None, annotations: list[Document] | None = None) -> Document:
    """A part of a message that is text."""
    return {"type": "output_text", "text": text, "annotations": annotations or [], "logprobs": logprobs or []}


def refusal_part(text: str) -> Document:
    """A part of a message that says why there is no answer."""
    return {"type": "refusal", "refusal": text}


def annotations_of(message: Mapping[str, Any]) -> list[Document]:
    """The sources that a message or a delta cites, as the Responses API has them: chat writes their fields deeper."""
    given = message.get("annotations")
    cited = []
    for one in given if isinstance(given, list) else ():
        if isinstance(one, dict) and isinstance(one.get("type"), str):
            inner = one.get(one["type"])
            cited.append({"type": one["type"], **inner} if isinstance(inner, dict) else one)
    return cited


def call_item(
    number: str, index: int, call_id: object, name: str, arguments: str, status: str, tool: Tool | None = None
) -> Document:
    """An item of `output` that calls a tool, at this place of it; `tool` is the request's that has this name in chat.

    Arguments from which the call of another kind cannot be made stay the call of a function: the client's answer to
    that tells the model.
    """
    if tool is not None and tool.kind is not ToolKind.FUNCTION:
        item = _other_call(tool, arguments, status)
        if item is not None:
            return {"id": f"{item.pop('prefix')}_{number}_{index}", "call_id": str(call_id), **item}
    named: Document = {"name": name if tool is None else tool.name}
    if tool is not None and tool.namespace is not None:
        named["namespace"] = tool.namespace
    return {
        "id": f"fc_{number}_{index}", "type": "function_call", "call_id": str(call_id), **named,
        "arguments": arguments, "status": status,
    }  # fmt: skip


def is_written_at_once(tool: Tool | None) -> bool:
    """Whether a call of this tool can only be written when its arguments are there as a whole."""
    return tool is not None and tool.kind in (ToolKind.SEARCH, ToolKind.SHELL)


def _other_call(tool: Tool, arguments: str, status: str) -> Document | None:
    if tool.kind is ToolKind.CUSTOM:
        spaced = {} if tool.namespace is None else {"namespace": tool.namespace}
        text = input_text(arguments)
        return {
            "prefix": "ctc", "type": "custom_tool_call", "name": tool.name, **spaced, "input": text, "status": status,
        }  # fmt: skip
    given: Any = None
    with suppress(orjson.JSONDecodeError):
        given = orjson.loads(arguments or "{}")
    if not isinstance(given, dict):
        return None
    if tool.kind is ToolKind.SEARCH:
        return {
            "prefix": "tsc", "type": "tool_search_call", "execution": "client", "arguments": given, "status": status,
        }  # fmt: skip
    action = _shell_action(given)
    return None if action is None else {"prefix": "lsh", "type": "local_shell_call", "action": action, "status": status}


def _shell_action(given: Document) -> Document | None:
    command = given.get("command")
    if isinstance(command, str):
        command = [*_SHELLS, command]
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        return None
    action: Document = {"type": "exec", "command": command, "env": {}}
    if isinstance(given.get("workdir"), str):
        action["working_directory"] = given["workdir"]
    if type(given.get("timeout_ms")) is int:
        action["timeout_ms"] = given["timeout_ms"]
    return action


def logprobs_of(choice: Mapping[str, Any]) -> list[Document]:
    """The log probabilities of a choice or a piece of one, as the Responses API writes them; none where none came."""
    found = choice.get("logprobs")
    tokens = found.get("content") if isinstance(found, dict) else None
    if not isinstance(tokens, list):
        return []
    return [{**_logprob(token), "top_logprobs": _top(token)} for token in tokens if _is_logprob(token)]


def _top(token: Document) -> list[Document]:
    top = token.get("top_logprobs")
    return [_logprob(one) for one in top if _is_logprob(one)] if isinstance(top, list) else []


def _is_logprob(token: Any) -> bool:
    return (
        isinstance(token, dict)
        and isinstance(token.get("token"), str)
        and isinstance(token.get("logprob"), int | float)
        and isinstance(token.get("bytes"), list | None)
    )


def _logprob(token: Document) -> Document:
    return {"token": token["token"], "logprob": token["logprob"], "bytes": token.get("bytes") or []}
