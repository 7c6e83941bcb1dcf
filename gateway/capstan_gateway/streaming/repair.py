"""Chunks of chat completions, written anew where an engine's form is not the one that clients understand.

Nothing is looked at in a stream before the first frame that holds a call, or that was seen to be odd when it was read
(`streaming.deltas`); from there on each frame is read, and what needs no change is passed on as the bytes that came.
"""

from typing import Any, Final

import orjson

from capstan_gateway.streaming.asked import NOTHING, Asked
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.forms import plain
from capstan_gateway.streaming.sse import data_frame, frame_data
from capstan_gateway.streaming.tool_calls import CallRepair

MAX_CHOICES: Final = 1024
"""Of one answer, that have a call."""


class ChunkRepair:
    """One stream of chat chunks."""

    __slots__ = ("_asked", "_choices", "_head", "_older", "begun")

    def __init__(self, asked: Asked = NOTHING) -> None:
        self._asked = asked
        self._choices: dict[int, CallRepair] = {}
        self._older: dict[int, CallRepair] = {}
        """Of choices with a call of the older form, `function_call`, which stays as it is for clients of chat."""
        self._head: dict[str, Any] = {}
        """The newest chunk with a choice."""
        self.begun = False

    @property
    def held(self) -> int:
        """Bytes of the stream that wait."""
        if not (self._choices or self._older):
            return 0
        return sum(choice.held for choice in (*self._choices.values(), *self._older.values()))

    def run(self, run: bytes) -> bytes:
        """Write whole frames, which hold JSON. StreamBroken when nobody could understand them."""
        self.begun = True
        kept: list[bytes] = []
        try:
            for frame in run.split(b"\n\n"):
                if frame:
                    kept.append(self._frame(frame + b"\n\n"))
        except StreamBroken as broken:
            broken.before = b"".join(kept)
            raise
        return b"".join(kept)

    def _frame(self, frame: bytes) -> bytes:
        data = frame_data(frame.strip(b"\n"))
        if data is None:
            return frame
        if data.strip() == b"[DONE]":
            return self._end() + frame
        chunk = orjson.loads(data)
        choices = chunk.get("choices")
        if chunk.get("error") is not None:
            self._choices.clear()  # What waits of a failed answer is nobody's.
        if not isinstance(choices, list):
            return frame
        if choices:
            self._head = chunk
        changed = False
        for choice in choices:
            changed = self._choice(choice) or changed
        return data_frame(chunk) if changed else frame

    def _end(self) -> bytes:
        """What is still to be told of calls that came behind the finish reason. StreamBroken for one without a name."""
        late = []
        for index, repair in self._choices.items():
            if pieces := repair.rest():
                late.append({"index": index, "delta": {"tool_calls": pieces}, "finish_reason": None})
        head = {key: value for key, value in self._head.items() if key != "usage"}
        return data_frame({**head, "choices": late}) if late else b""

    def _choice(self, choice: Any) -> bool:
        """Write one choice anew, in place; give whether something has changed."""
        changed = self._placed(choice)
        delta = choice.get("delta")
        if delta is None and self._asked.chat and isinstance(choice.get("message"), dict):
            delta, changed = choice.pop("message"), True  # Some write what a whole answer has.
        if delta is None:
            if not self._asked.chat and not choice.get("finish_reason"):
                return changed
            delta, changed = {}, changed or self._asked.chat
        written = plain(delta) if self._asked.client_reads_chat else delta
        changed = changed or written is not delta
        called = self._calls(choice, written)
        if called is not None:
            written, changed = called, True
        if changed and (written or self._asked.chat or choice.get("delta") is not None):
            choice["delta"] = written
        return changed

    def _placed(self, choice: dict[str, Any]) -> bool:
        """Put right of which choice it is, and whether that is over."""
        changed = False
        if choice.get("index") and self._asked.single:
            choice["index"], changed = 0, True
        if choice.get("finish_reason") == "":
            choice["finish_reason"], changed = None, True
        return changed

    def _calls(self, choice: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any] | None:
        """Write the calls of a delta anew, and the finish reason; None where nothing has changed."""
        given, finish, index = delta.get("tool_calls"), choice.get("finish_reason"), choice.get("index") or 0
        if isinstance(delta.get("function_call"), dict) and not given:
            if self._asked.client_reads_chat or not self._asked.chat:
                self._note_older(index, delta["function_call"])
            else:
                given = [{"index": 0, "function": delta["function_call"]}]
                delta = {key: value for key, value in delta.items() if key != "function_call"}
        if not given and not finish:
            return None
        repair = self._choices.get(index)
        if repair is None:
            if len(self._choices) >= MAX_CHOICES:
                raise StreamBroken("the model's answer held too many choices")
            repair = self._choices[index] = CallRepair(self._asked)
        pieces = repair.pieces(given) if given else []
        pieces += repair.rest(cut=finish == "length") if finish else []
        if finish == "tool_calls" and not repair.called and index not in self._older:
            choice["finish_reason"] = "stop"
        elif pieces == (delta.get("tool_calls") or []):
            return None
        made = {**delta, "tool_calls": pieces}
        if not pieces:
            del made["tool_calls"]
        return made

    def _note_older(self, index: int, call: dict[str, Any]) -> None:
        """See that there is one such call: clients would take the arguments of two for one. StreamBroken otherwise."""
        if index not in self._older and len(self._older) >= MAX_CHOICES:
            raise StreamBroken("the model's answer held too many choices")
        older = self._older.setdefault(index, CallRepair(self._asked))
        older.pieces([{"index": 0, "function": call}])
        if older.several:
            raise StreamBroken("the model's answer held two calls in the form of one")
