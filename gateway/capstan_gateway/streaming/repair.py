"""Chunks and answers with tool calls, written anew where an engine's form is not the one that clients understand.

Nothing is looked at in a stream before the first frame that holds a call; from there on each frame is read, and
what needs no change is passed on as the bytes that came.
"""

import re
from typing import Any, Final

import orjson

from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.sse import data_frame, frame_data
from capstan_gateway.streaming.tool_calls import CallRepair, repaired_calls

_SIGN: Final = b'"tool_calls"'
"""What every chunk and every answer with a call holds, and the finish reason of one."""
_OLDER: Final = b'"function_call"'
_CALLS: Final = re.compile(rb'"tool_calls"(?!\s*:\s*(?:\[\s*\]|null))|"function_call"\s*:\s*\{')


def may_call(data: bytes) -> bool:
    """Whether there may be a call in it: vLLM writes an empty list of them into each answer that has none."""
    return (_SIGN in data or _OLDER in data) and _CALLS.search(data) is not None


class ChunkRepair:
    """One stream of chat chunks."""

    __slots__ = ("_choices", "_older", "begun")

    def __init__(self) -> None:
        self._choices: dict[int, CallRepair] = {}
        self._older: set[int] = set()
        """Choices with a call of the older form, `function_call`, which stays as it is."""
        self.begun = False

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
        if data is None or data.strip() == b"[DONE]":
            return frame
        chunk = orjson.loads(data)
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            return frame
        changed = False
        for choice in choices:
            changed = self._choice(choice) or changed
        return data_frame(chunk) if changed else frame

    def _choice(self, choice: Any) -> bool:
        """Write one choice's calls anew, in place; give whether something has changed."""
        delta, finish = choice.get("delta"), choice.get("finish_reason")
        given = delta.get("tool_calls") if isinstance(delta, dict) else None
        index = choice.get("index") or 0
        repair = self._choices.get(index)
        if isinstance(delta, dict) and isinstance(delta.get("function_call"), dict):
            self._older.add(index)
        if not given and not finish:
            return False
        if repair is None:
            repair = self._choices[index] = CallRepair()
        pieces = repair.pieces(given) if given else []
        pieces += repair.rest() if finish else []
        changed = pieces != (given or [])
        if changed:
            choice["delta"] = {**(delta or {}), "tool_calls": pieces}
            if not pieces:
                del choice["delta"]["tool_calls"]
        if finish == "tool_calls" and not repair.called and index not in self._older:
            choice["finish_reason"] = "stop"
            return True
        return changed


def repaired_answer(body: bytes, document: dict[str, Any]) -> bytes:
    """A whole chat completion, which says what `document` says: the same bytes where nothing has to change.

    `document` is written into.
    """
    choices = document.get("choices")
    changed = False
    for choice in choices if type(choices) is list else ():
        changed = _repair_choice(choice) or changed
    return orjson.dumps(document) if changed else body


def _repair_choice(choice: Any) -> bool:
    message = choice.get("message") if type(choice) is dict else None
    if type(message) is not dict:
        return False
    calls = message.get("tool_calls")
    if not calls and choice.get("finish_reason") == "tool_calls" and not message.get("function_call"):
        choice["finish_reason"] = "stop"
        return True
    if not isinstance(calls, list) or not calls:
        return False
    written = repaired_calls(calls)
    message["tool_calls"] = written
    return written != calls
