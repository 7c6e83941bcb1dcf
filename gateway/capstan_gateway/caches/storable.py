"""Whether an answer may be given again. Pure.

Only what is whole and says so: each choice has ended by itself (`stop`), or with calls where a policy lets requests
with tools in. What was cut short (`length`), withheld, refused by a filter, or ended in a way that is not known is made
anew each time.
"""

from collections.abc import Mapping
from typing import Any, Final

_ENDS: Final = frozenset(("stop",))
_ENDS_WITH_TOOLS: Final = frozenset(("stop", "tool_calls", "function_call"))
_NATIVE_ENDS: Final = frozenset(("end_turn", "stop_sequence"))
_NATIVE_ENDS_WITH_TOOLS: Final = frozenset(("end_turn", "stop_sequence", "tool_use"))


def is_complete(answer: object, *, tools: bool) -> bool:
    """Whether a chat or text completion has come to its own end; `tools` says that one may end with calls."""
    if not isinstance(answer, Mapping) or answer.get("error") is not None:
        return False
    choices = answer.get("choices")
    return isinstance(choices, list) and bool(choices) and all(_is_said(choice, tools=tools) for choice in choices)


def _is_said(choice: object, *, tools: bool) -> bool:
    """Whether a choice says something, and has ended by itself: engines end some answers with calls by `stop`."""
    if not isinstance(choice, Mapping) or choice.get("finish_reason") not in (_ENDS_WITH_TOOLS if tools else _ENDS):
        return False
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return bool(choice.get("text"))
    calls = bool(message.get("tool_calls") or message.get("function_call"))
    if message.get("refusal") or (calls and not tools):
        return False
    return calls or bool(message.get("content"))


def is_complete_message(answer: object, *, tools: bool) -> bool:
    """The same of a message as Anthropic's API gives it."""
    if not isinstance(answer, Mapping) or answer.get("type") != "message":
        return False
    blocks = answer.get("content")
    if answer.get("stop_reason") not in (_NATIVE_ENDS_WITH_TOOLS if tools else _NATIVE_ENDS):
        return False
    kinds = (
        [str(block.get("type")) for block in blocks if isinstance(block, Mapping)] if isinstance(blocks, list) else []
    )
    calls = any(kind.endswith("_use") for kind in kinds)
    return (tools or not calls) and (calls or "text" in kinds)


def is_complete_response(answer: object, *, tools: bool) -> bool:
    """The same of a response as OpenAI's Responses API gives it."""
    if not isinstance(answer, Mapping) or answer.get("object") != "response" or answer.get("error") is not None:
        return False
    output = answer.get("output")
    if answer.get("status") != "completed" or not isinstance(output, list):
        return False
    calls = any(_is_call(item) for item in output)
    parts = [part for item in output for part in _parts_of(item)]
    if any(part.get("type") == "refusal" for part in parts) or (calls and not tools):
        return False
    return calls or any(part.get("text") for part in parts)


def _parts_of(item: object) -> list[Mapping[str, Any]]:
    content = item.get("content") if isinstance(item, Mapping) and item.get("type") == "message" else None
    return [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []


def is_complete_list(answer: object, *, field: str) -> bool:
    """The same of vectors, scores and classes: a list that is not empty."""
    if not isinstance(answer, Mapping) or answer.get("error") is not None:
        return False
    found = answer.get(field)
    return isinstance(found, list) and bool(found)


def offers_tools(document: Mapping[str, Any]) -> bool:
    """Whether a request lets the model call something."""
    return any(document.get(name) for name in ("tools", "functions", "mcp_servers", "web_search_options"))


def _is_call(item: object) -> bool:
    return isinstance(item, Mapping) and str(item.get("type")).endswith("_call")
