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
    if not isinstance(choices, list) or not choices:
        return False
    ends = _ENDS_WITH_TOOLS if tools else _ENDS
    return all(isinstance(choice, Mapping) and choice.get("finish_reason") in ends for choice in choices)


def is_complete_message(answer: object, *, tools: bool) -> bool:
    """The same of a message as Anthropic's API gives it."""
    if not isinstance(answer, Mapping) or answer.get("type") != "message":
        return False
    return answer.get("stop_reason") in (_NATIVE_ENDS_WITH_TOOLS if tools else _NATIVE_ENDS)


def is_complete_response(answer: object, *, tools: bool) -> bool:
    """The same of a response as OpenAI's Responses API gives it."""
    if not isinstance(answer, Mapping) or answer.get("object") != "response":
        return False
    output = answer.get("output")
    if answer.get("status") != "completed" or not isinstance(output, list):
        return False
    return tools or not any(_is_call(item) for item in output)


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
