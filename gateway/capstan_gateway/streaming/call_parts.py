"""Parts of tool calls: ids, arguments, and where a JSON object that comes in pieces is complete. Pure."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from capstan_gateway.streaming.json_marks import JsonMarks
from capstan_gateway.streaming.sse import json_of


def make_call_id() -> str:
    """An id for a call that has none. An answer that is told twice has others, but no conversation has one twice."""
    return f"call_{uuid.uuid4().hex[:24]}"


class CallIds:
    """The ids that the calls of one answer get: each once, and none that the conversation had before."""

    __slots__ = ("_numbers", "_taken")

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}
        """The last number that was put behind an id."""

    def unique(self, wanted: str) -> str:
        """Give this id, or the same with a number behind it; from now on it is taken. One is made up for none."""
        made = wanted = wanted or make_call_id()
        while made in self._taken:
            number = self._numbers[wanted] = self._numbers.get(wanted, 1) + 1
            made = f"{wanted}_{number}"
        self._taken.add(made)
        return made


def text_of_arguments(arguments: Any, *, begun: bool = False) -> str:
    """Arguments, or a piece of them, as the JSON text that clients expect; "" when there are none.

    `null` says that there are none, unless it is a piece of arguments that have `begun`.
    """
    if arguments is None or (arguments == "null" and not begun):
        return ""
    return arguments if isinstance(arguments, str) else json_of(arguments).decode()


def function_of(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """The function of a call, or of a piece of one; empty for what is none."""
    function = call.get("function")
    return function if isinstance(function, dict) else {}


def text_in(holder: Mapping[str, Any], name: str) -> str:
    """The text under this name; "" for what is none."""
    value = holder.get(name)
    return value if isinstance(value, str) else ""


class ObjectEnd(JsonMarks):
    """Sees where a JSON object or array that comes in pieces is complete, by its brackets and quotes."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        super().__init__()
        self.complete = False

    def close(self) -> None:
        """Take a bracket that ends an object or a list."""
        self.depth -= 1
        self.complete = self.depth <= 0
