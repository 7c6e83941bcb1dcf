"""Tool calls of one answer, from engines that do not all write them alike, in the one form that clients understand.

In that form (OpenAI's) the pieces of a call share an `index` that counts from 0, the first one has its `id`, its `type`
and its name, and the others only more of its arguments, a string. What engines send instead, each seen in the field:
the same index for every call or none, ids and names repeated, empty, late, missing or new in each piece, arguments as
an object, none, or all of them again. Which call a piece belongs to is decided by `ToolCalls.of`. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any, Final

from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.streaming.arguments import Arguments
from capstan_gateway.streaming.asked import NOTHING, Asked
from capstan_gateway.streaming.call_parts import CallIds, function_of, text_in, text_of_arguments
from capstan_gateway.streaming.errors import StreamBroken

MAX_WAITING: Final = 1024 * 1024
"""Bytes of arguments that may wait for the names of their calls, or until it is known what they are."""
MAX_CALLS: Final = 1000
"""Of one choice."""
_NO_NAME: Final = "the model called a tool without a name"
_TOO_MANY: Final = "the model's answer held too many tool calls"
_TOO_MUCH: Final = "the model's answer held too much of tool calls of which nobody could tell what they are"
_BEHIND: Final = "the model's answer came back to a tool call that it had finished"


@dataclass(slots=True)
class _Piece:
    """What an engine sends of a call at once."""

    index: int | None
    id: str
    name: str
    arguments: Any
    others: dict[str, Any]
    """What it says beside the usual, such as Gemini's thought signature."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "_Piece":
        index, function = given.get("index"), function_of(given)
        return cls(
            index=index if isinstance(index, int) and not isinstance(index, bool) else None,
            id=text_in(given, "id"),
            name=text_in(function, "name"),
            arguments=function.get("arguments"),
            others={key: value for key, value in given.items() if key not in ("index", "id", "type", "function")},
        )

    @property
    def text(self) -> str:
        """Its arguments, when it is the first of its call."""
        return text_of_arguments(self.arguments)

    @property
    def is_blank(self) -> bool:
        """Whether it has no arguments."""
        return not self.text.strip()


@dataclass(slots=True)
class Call:
    """A call of which a piece has come."""

    number: int
    """Its place among those that have begun, from 0."""
    index: int | None
    """What the engine says it is."""
    engine_id: str = ""
    id: str = ""
    """What the client is told."""
    name: str = ""
    place: int = -1
    """Its place among the calls of which the client was told."""
    closed: bool = False
    """Whether the client was told that it has no arguments."""
    waiting: list[str] = field(default_factory=list)
    """Arguments that wait for the name."""
    arguments: Arguments = field(default_factory=Arguments)

    @property
    def told(self) -> bool:
        """Whether its first piece was given out."""
        return self.place >= 0

    @property
    def empty(self) -> bool:
        """Whether no arguments came so far."""
        return self.arguments.empty

    @property
    def complete(self) -> bool:
        """Whether it has all of its arguments."""
        return self.arguments.complete

    def begins(self, text: str) -> bool:
        """Whether this text begins with all of its arguments so far."""
        return self.arguments.begins(text)

    def is_followed_by(self, text: str) -> bool:
        """Whether these are the arguments of another call: it has all of its own, and they are not told once more."""
        return self.complete and bool(self.name) and text.lstrip().startswith("{") and not self.begins(text)

    def opening(self, arguments: str) -> dict[str, Any]:
        """Its first piece."""
        function = {"name": self.name, "arguments": arguments}
        return {"index": self.place, "id": self.id, "type": "function", "function": function}


class ToolCalls:
    """The calls of one choice of one answer."""

    __slots__ = ("_asked", "_by_id", "_placed", "calls")

    def __init__(self, asked: Asked = NOTHING) -> None:
        self._asked = asked
        self.calls: list[Call] = []
        self._by_id: dict[str, list[Call]] = {}
        self._placed: dict[int, Call] = {}
        """The newest call of each index."""

    def of(self, piece: _Piece, named: set[int]) -> Call:
        """The call that a piece belongs to, perhaps a new one; `named` are the calls that got a name in this chunk.

        An id that is new opens a call, unless it is the late one of a call that had none, or a piece without a name
        that goes on with arguments. Without an id, the index says which call it is; without an index too it is the
        newest, unless a name begins another one. Two names in one list are never of one call.
        """
        call = self.candidate(piece)
        if call is None or not self._goes_on(call, piece, named):
            call = self._open(piece, call)
        if piece.index is not None:
            self._placed[piece.index] = call
        if piece.id and not call.engine_id:
            call.engine_id = piece.id
            self._by_id.setdefault(piece.id, []).append(call)
        if piece.name:
            named.add(call.number)
        return call

    def _open(self, piece: _Piece, before: Call | None) -> Call:
        """Begin a call; it has a name where an engine has called the same tool again, and says only with what."""
        if len(self.calls) >= MAX_CALLS:
            raise StreamBroken(_TOO_MANY)
        again = before is not None and not piece.name and piece.id in ("", before.engine_id)
        call = Call(len(self.calls), piece.index, name=before.name if again and before is not None else "")
        self.calls.append(call)
        return call

    def candidate(self, piece: _Piece) -> Call | None:
        """The call that a piece belongs to unless it begins one."""
        same = self._by_id.get(piece.id) if piece.id else None
        if same is None:
            return self._placed.get(piece.index) if piece.index is not None else self.calls[-1] if self.calls else None
        if piece.index is None or not piece.name:
            return same[-1]
        return next((call for call in reversed(same) if call.index == piece.index), None)

    def _goes_on(self, call: Call, piece: _Piece, named: set[int]) -> bool:
        """Whether this piece is of this call, which has its id, or its place."""
        if piece.id and piece.id == call.engine_id:
            return self._repeats(call, piece, named)
        if piece.id:
            return _takes_id(call, piece)
        if not piece.name or not call.name:
            return not call.is_followed_by(piece.text)
        if call.complete:
            known = piece.index is not None if piece.is_blank else bool(call.engine_id) and call.begins(piece.text)
            return known and piece.name == call.name
        if call.number in named or (piece.index is None and not call.engine_id):
            return False
        return self._is_of_name(call, piece)

    def _repeats(self, call: Call, piece: _Piece, named: set[int]) -> bool:
        """Whether a piece with the id of this call is of it: one id may stand for two calls."""
        if not piece.name or not call.name:
            return not call.is_followed_by(piece.text)
        if call.complete:
            return piece.name == call.name and (piece.is_blank or call.begins(piece.text))
        return piece.name == call.name or (call.number not in named and self._is_of_name(call, piece))

    def _is_of_name(self, call: Call, piece: _Piece) -> bool:
        """Whether a name is that of this call, or more of it."""
        if piece.name == call.name:
            return True
        return call.empty and not self._asked.begins_another(call.name, piece.name)


def _takes_id(call: Call, piece: _Piece) -> bool:
    """Whether a piece with an id that is new goes on with this call all the same."""
    if call.complete:
        return not piece.name and call.begins(piece.text)
    if not call.engine_id:
        return not piece.name or not call.name or piece.name == call.name
    # Some proxies make up an id for each piece.
    return not piece.name and bool(call.name) and not (call.empty and piece.is_blank)


class CallRepair:
    """Writes the pieces of one choice's calls in the form that clients understand."""

    __slots__ = ("_asked", "_calls", "_ids", "_told", "held")

    def __init__(self, asked: Asked = NOTHING) -> None:
        self._asked = asked
        self._calls = ToolCalls(asked)
        self._ids: CallIds | None = None
        self._told = 0
        """How many calls the client was told of."""
        self.held = 0
        """Bytes of arguments that wait for the name of their call."""

    @property
    def called(self) -> bool:
        """Whether there is a call."""
        return self._told > 0

    @property
    def several(self) -> bool:
        """Whether there is more than one, told or not."""
        return len(self._calls.calls) > 1

    def pieces(self, given: list[Any]) -> list[dict[str, Any]]:
        """What to send for these pieces of one chunk; what lacks a name waits for it.

        StreamBroken when too much waits, and for what nobody could understand.
        """
        named: set[int] = set()
        return [written for piece in given if isinstance(piece, dict) for written in self._piece(piece, named)]

    def rest(self, *, cut: bool = False) -> list[dict[str, Any]]:
        """What is still to be sent when the choice is over: `{}` of a call that came without arguments, for one.

        It is `cut` when it broke off at its limit.
        """
        written: list[dict[str, Any]] = []
        for call in self._calls.calls:
            self.held -= call.arguments.held
            written += self._settled(call, call.arguments.rest(cut=cut))
            if not call.told:
                if not call.name:
                    if call.empty and not call.engine_id:
                        continue  # A place that an engine kept for a call which did not come.
                    raise StreamBroken(_NO_NAME)
                call.closed = call.empty
                written.append(self._opening(call, {}, "{}"))
            elif call.empty and not call.closed:
                call.closed = True
                written.append({"index": call.place, "function": {"arguments": "{}"}})
        return written

    def _piece(self, given: dict[str, Any], named: set[int]) -> list[dict[str, Any]]:
        piece = _Piece.read(given)
        settled = self._settle(piece)
        call = self._calls.of(piece, named)
        name = _more_of_name(call, piece.name)
        self.held -= call.arguments.held
        text = _more_of_arguments(call, piece)
        self.held += call.arguments.held
        call.name += name
        if text and not call.told:
            call.waiting.append(text)
            self.held += getsizeof(text)
        if self.held > MAX_WAITING:
            raise StreamBroken(_TOO_MUCH if call.name else _NO_NAME)
        if call.told:
            return [*settled, _continuation(piece, call, name, text)] if name or text or piece.others else settled
        if not call.name or not (call.engine_id or text):
            return settled
        # Clients put calls into a list: those that came before it are told before it, without an id that comes late.
        before = [one for one in self._calls.calls[: call.number] if one.name and not one.told]
        return [*settled, *(self._opening(one, {}) for one in before), self._opening(call, piece.others)]

    def _settle(self, piece: _Piece) -> list[dict[str, Any]]:
        """What is known of a call's arguments by the piece that follows them."""
        call = self._calls.candidate(piece)
        if call is None or not call.arguments.held:
            return []
        self.held -= call.arguments.held
        text = call.arguments.settle(text_of_arguments(piece.arguments, begun=True))
        self.held += call.arguments.held
        return self._settled(call, text)

    def _settled(self, call: Call, text: str) -> list[dict[str, Any]]:
        """What to send of arguments that have waited."""
        if text and not call.told:
            call.waiting.append(text)
            self.held += getsizeof(text)
        return [{"index": call.place, "function": {"arguments": text}}] if text and call.told else []

    def _opening(self, call: Call, others: dict[str, Any], instead: str = "") -> dict[str, Any]:
        self._ids = self._ids or CallIds(self._asked.call_ids)
        call.id, call.place = self._ids.unique(call.engine_id), self._told
        self._told += 1
        self.held -= sum(map(getsizeof, call.waiting))
        waited, call.waiting = "".join(call.waiting), []
        return {**others, **call.opening(waited or instead)}


def _more_of_name(call: Call, name: str) -> str:
    """What a name in a further piece adds: nothing if it is the same again, or if arguments have come."""
    if not name or name == call.name or (call.name and not call.empty):
        return ""
    return name[len(call.name) :] if name.startswith(call.name) else name


def _more_of_arguments(call: Call, piece: _Piece) -> str:
    """What a piece adds to the arguments of its call: nothing if they are the same again.

    StreamBroken for more of them behind their end, which nobody could understand.
    """
    text = text_of_arguments(piece.arguments, begun=not call.empty)
    if not text.strip():
        return "" if call.empty else call.arguments.add(text)
    if call.closed or (call.complete and text.lstrip().startswith("{") and not call.begins(text)):
        raise StreamBroken(_BEHIND)
    return call.arguments.add(text)


def _continuation(piece: _Piece, call: Call, name: str, text: str) -> dict[str, Any]:
    function = {**({"name": name} if name else {}), "arguments": text}
    return {**piece.others, "index": call.place, "function": function}


def repaired_calls(calls: list[Any], asked: Asked = NOTHING) -> list[Any]:
    """The calls of a whole message: ids where there were none and none twice, arguments as text, `{}` without any.

    UpstreamFailed for a call without a name.
    """
    ids = CallIds(asked.call_ids)
    written = []
    for call in calls:
        if not isinstance(call, dict):
            continue
        function = function_of(call)
        text = text_of_arguments(function.get("arguments"))
        if not text_in(function, "name"):
            if not text.strip() and not text_in(call, "id"):
                continue
            raise UpstreamFailed(_NO_NAME)
        function = {**function, "arguments": text if text.strip() else "{}"}
        written.append({**call, "id": ids.unique(text_in(call, "id")), "type": "function", "function": function})
    return written
