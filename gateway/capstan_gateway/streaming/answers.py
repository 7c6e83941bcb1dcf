"""Whole chat completions, written anew where an engine's form is not the one that clients understand."""

import uuid
from typing import Any, Final

import orjson

from capstan_gateway.streaming.asked import NOTHING, Asked
from capstan_gateway.streaming.call_parts import text_in
from capstan_gateway.streaming.deltas import TEXTS
from capstan_gateway.streaming.forms import REASONING, plain
from capstan_gateway.streaming.tool_calls import repaired_calls

Document = dict[str, Any]
_FINISHED: Final = "stop"
_TEXTS: Final = frozenset((*TEXTS, *REASONING))
ODD_FINISHES: Final = ("", "tool_calls")
"""Those that may be wrong: none, and one that speaks of calls."""


def mend_answer(document: Document, asked: Asked = NOTHING) -> bool:
    """Write an answer anew, in place; give whether something has changed. UpstreamFailed for a call without a name."""
    choices = document.get("choices")
    if not isinstance(choices, list):
        return False
    one = as_one(choices) if asked.single else None
    changed = one is not None
    if one is not None:
        choices = document["choices"] = [{**one, "index": 0}]
    for choice in choices:
        changed = _mend_choice(choice, asked) or changed
    if changed and not document.get("id"):
        document["id"] = f"chatcmpl-{uuid.uuid4().hex}"
    return changed


def as_one(choices: list[Any]) -> Document | None:
    """The one choice that several are parts of: GitHub Copilot's API puts text and calls into a choice each.

    They have no index, or the first one's. None where there is nothing to join.
    """
    parts = [one for one in choices if isinstance(one, dict) and not one.get("index")]
    messages = [one["message"] for one in parts if isinstance(one.get("message"), dict)]
    if len(messages) < 2 or len(messages) < len(choices):
        return None
    merged: Document = {}
    calls: list[Any] = []
    told: set[bytes] = set()
    for message in messages:
        for call in _calls_of(message):
            if not _is_told(call, told):
                calls.append(call)
        merged = {**message, **{key: value for key, value in merged.items() if value}, **_joined(merged, message)}
    if calls:
        merged["tool_calls"] = calls
    return {**parts[-1], "message": merged}


def _joined(before: Document, message: Document) -> Document:
    """The texts that both parts have."""
    both = ((name, before.get(name), message.get(name)) for name in _TEXTS)
    return {name: one + more for name, one, more in both if isinstance(one, str) and isinstance(more, str)}


def _is_told(call: Any, told: set[bytes]) -> bool:
    """Whether a part tells a call of another one once more: with the same id, name and arguments."""
    if not isinstance(call, dict) or not text_in(call, "id"):
        return False
    whole = orjson.dumps([call["id"], call.get("function")])
    if whole in told:
        return True
    told.add(whole)
    return False


def _calls_of(message: Document) -> list[Any]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else []


def _mend_choice(choice: Any, asked: Asked) -> bool:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        if not isinstance(choice, dict) or choice.get("finish_reason") != "":
            return False
        choice["finish_reason"] = _FINISHED
        return True
    made = plain(message) if asked.client_reads_chat else message
    calls = made.get("tool_calls")
    if isinstance(calls, list) and calls:
        written = repaired_calls(calls, asked)
        made = {**made, "tool_calls": written} if written != calls else made
    finish = _finish_of(choice, made)
    changed = made is not message or finish != choice.get("finish_reason")
    if changed:
        choice["message"], choice["finish_reason"] = made, finish
    return changed


def _finish_of(choice: Document, message: Document) -> Any:
    """Why it ended, also where the engine leaves that empty, or speaks of calls that there are not."""
    finish, called = choice.get("finish_reason"), bool(message.get("tool_calls"))
    if finish == "":
        return "tool_calls" if called else _FINISHED
    if finish == "tool_calls" and not called and not message.get("function_call"):
        return _FINISHED
    return finish
