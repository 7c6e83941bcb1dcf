"""Tool calls of one answer, from engines that do not all write them alike, in the one form that clients understand.

In that form (OpenAI's) the pieces of a call share an `index` that counts from 0, the first one has its `id`, its `type`
and its name, and the others only more of its arguments, a string. What engines send instead, each seen in the field:
the same index for every call or none, ids and names repeated, empty, late or missing, arguments as an object or none.
Which call a piece belongs to is decided by `ToolCalls.of`. Pure.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.streaming.errors import StreamBroken

MAX_WAITING: Final = 1024 * 1024
"""Characters of arguments that may wait for the name of their call."""
_MARKS: Final = re.compile(r'["\\{}\[\]]')
_NO_NAME: Final = "the model called a tool without a name"


def make_call_id() -> str:
    """An id for a call that has none. An answer that is told twice has others, but no conversation has one twice."""
    return f"call_{uuid.uuid4().hex[:24]}"


def _unique(wanted: str, taken: set[str]) -> str:
    """An id that no other call of the answer has: this one, or with a number behind it. From now on it is taken."""
    made, number = wanted, 1
    while made in taken:
        number += 1
        made = f"{wanted}_{number}"
    taken.add(made)
    return made


def text_of_arguments(arguments: Any) -> str:
    """Arguments as the JSON text that clients expect; "" when there are none."""
    if arguments is None or arguments == "null":
        return ""
    return arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()


class ObjectEnd:
    """Sees where a JSON object or array that comes in pieces is complete, by its brackets and quotes."""

    __slots__ = ("_depth", "_escaped", "_in_string", "complete")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False
        self.complete = False

    def feed(self, text: str) -> None:
        """Take the next piece."""
        at = 0
        for mark in _MARKS.finditer(text):
            if self._escaped and mark.start() > at:
                self._escaped = False
            self._mark(mark.group())
            at = mark.end()
        if at < len(text):
            self._escaped = False

    def _mark(self, mark: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._escaped = mark == "\\"
            self._in_string = mark != '"'
        elif mark == '"':
            self._in_string = True
        elif mark in "{[":
            self._depth += 1
        elif mark in "}]":
            self._depth -= 1
            self.complete = self._depth <= 0


@dataclass(slots=True)
class Call:
    """A call of which a piece has come."""

    number: int
    """Its place among the calls of this answer, from 0."""
    index: int | None
    """What the engine says it is."""
    engine_id: str = ""
    id: str = ""
    """What the client is told."""
    name: str = ""
    told: bool = False
    """Whether its first piece was given out."""
    empty: bool = True
    """Whether no arguments came so far."""
    waiting: str = ""
    """Arguments that wait for the name."""
    end: ObjectEnd = field(default_factory=ObjectEnd)

    def opening(self) -> dict[str, Any]:
        """Its first piece, with what has waited."""
        self.told = True
        self.id = self.id or make_call_id()
        function = {"name": self.name, "arguments": self.waiting}
        self.waiting = ""
        return {"index": self.number, "id": self.id, "type": "function", "function": function}


class ToolCalls:
    """The calls of one choice of one answer."""

    __slots__ = ("_ids", "calls")

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._ids: set[str] = set()

    def of(self, piece: Mapping[str, Any]) -> Call:
        """The call that a piece belongs to, perhaps a new one.

        An id that is new opens a call, unless it is the late one of a call that had none. Without an id, the index
        says which call it is; without an index too it is the newest, unless a name begins another one behind it.
        """
        index, found = _index_of(piece), _text(piece, "id")
        name = _text(_function(piece), "name")
        call = self._known(index, found, name)
        if call is None:
            call = Call(len(self.calls), index)
            self.calls.append(call)
        if found and not call.engine_id:
            call.engine_id = found
            if not call.told:
                call.id = _unique(found, self._ids)
        return call

    def _known(self, index: int | None, found: str, name: str) -> Call | None:
        """The call that this piece goes on with; None when it begins one."""
        same = [call for call in self.calls if found and call.engine_id == found]
        if same:
            if index is None or not name:
                return same[-1]
            return next((call for call in reversed(same) if call.index == index), None)
        placed = [call for call in self.calls if index is None or call.index == index]
        call = placed[-1] if placed else None
        if call is None:
            return None
        if found:
            late = not call.engine_id and (not name or not call.name or name == call.name) and not call.end.complete
            return call if late else None
        return None if name and call.end.complete else call


class CallRepair:
    """Writes the pieces of one choice's calls in the form that clients understand."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls = ToolCalls()

    @property
    def called(self) -> bool:
        """Whether there is a call."""
        return any(call.told for call in self._calls.calls)

    def pieces(self, given: list[Any]) -> list[dict[str, Any]]:
        """What to send for these pieces; what lacks a name waits for it. StreamBroken when too much waits."""
        return [written for piece in given if isinstance(piece, dict) for written in self._piece(piece)]

    def rest(self) -> list[dict[str, Any]]:
        """What is still to be sent when the choice is over: `{}` of a call that came without arguments, for one."""
        written: list[dict[str, Any]] = []
        for call in self._calls.calls:
            if not call.told:
                if not call.name:
                    if call.empty and not call.id:
                        continue  # A place that an engine kept for a call which did not come.
                    raise StreamBroken(_NO_NAME)
                call.waiting = call.waiting or "{}"
                written.append(call.opening())
            elif call.empty:
                written.append({"index": call.number, "function": {"arguments": "{}"}})
            call.empty = False
        return written

    def _piece(self, piece: dict[str, Any]) -> list[dict[str, Any]]:
        call = self._calls.of(piece)
        function = _function(piece)
        name = _more_of_name(call, _text(function, "name"))
        arguments = function.get("arguments")
        text = text_of_arguments(arguments) if call.empty or arguments != "null" else "null"
        call.name += name
        call.end.feed(text)
        call.empty = call.empty and not text
        if call.told:
            return [_continuation(piece, call, name, text)] if name or text or _others(piece) else []
        call.waiting += text
        if len(call.waiting) > MAX_WAITING:
            raise StreamBroken(_NO_NAME)
        if not call.name or not (call.id or text):
            return []
        return [{**_others(piece), **call.opening()}]


def _more_of_name(call: Call, name: str) -> str:
    """What a name in a further piece adds: nothing if it is the same again, or if arguments have come."""
    if not name or name == call.name or (call.name and not call.empty):
        return ""
    return name[len(call.name) :] if name.startswith(call.name) else name


def _continuation(piece: dict[str, Any], call: Call, name: str, text: str) -> dict[str, Any]:
    function = {**({"name": name} if name else {}), "arguments": text}
    return {**_others(piece), "index": call.number, "function": function}


def _others(piece: dict[str, Any]) -> dict[str, Any]:
    """What an engine says of a call beside the usual, such as Gemini's thought signature."""
    return {key: value for key, value in piece.items() if key not in ("index", "id", "type", "function")}


def _function(piece: Mapping[str, Any]) -> Mapping[str, Any]:
    function = piece.get("function")
    return function if isinstance(function, dict) else {}


def _text(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def _index_of(piece: Mapping[str, Any]) -> int | None:
    index = piece.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def repaired_calls(calls: list[Any]) -> list[Any]:
    """The calls of a whole message: ids where there were none and none twice, arguments as text, `{}` without any.

    UpstreamFailed for a call without a name.
    """
    known: set[str] = set()
    written = []
    for call in calls:
        if not isinstance(call, dict):
            written.append(call)
            continue
        made = _unique(_text(call, "id") or make_call_id(), known)
        function = _function(call)
        text = text_of_arguments(function.get("arguments")) or "{}"
        if not _text(function, "name"):
            if text == "{}" and not _text(call, "id"):
                continue
            raise UpstreamFailed(_NO_NAME)
        written.append({**call, "id": made, "type": "function", "function": {**function, "arguments": text}})
    return written
