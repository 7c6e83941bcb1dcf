"""Turns that say nothing and calls without a result, in Anthropic's own form and in that of OpenAI's responses.

Only what these APIs refuse is changed: an agent that was interrupted, or whose other model said nothing, sends it in
every further request of its conversation.
"""

from collections import Counter
from typing import Any, Final

from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.targets.turns import INTERRUPTED, NOTHING_SAID

_OUTPUTS: Final = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
"""Types of calls that a client answers, with the type of the answer."""


def spoken(messages: list[Any]) -> list[Any]:
    """Give Anthropic's messages without empty texts and empty turns; the same list when nothing changes.

    An assistant's turn of nothing goes, a user's is filled: neighbours of one role are one turn to that API.
    """
    found: list[Any] = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            left = [block for block in content if not _is_empty_text(block)]
        elif isinstance(content, str):
            left = content if content else []  # type: ignore[assignment]
        else:
            found.append(message)
            continue
        if left:
            found.append(message if len(left) == len(content) else {**message, "content": left})
        elif message.get("role") == "user":
            found.append({**message, "content": [{"type": "text", "text": NOTHING_SAID}]})
    return _same_if_same(messages, found)


def with_results(messages: list[Any]) -> list[Any]:
    """Give Anthropic's messages with a result for every call in the turn behind it; the same list when nothing changes.

    One that says that there is none stands for each that never came.
    """
    found: list[Any] = []
    calls: list[str] = []
    """Of the assistant's turn that came last: it may be several messages."""
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if role == "user" and calls:
            message = _answered(message, calls)
            calls = []
        elif role == "assistant":
            calls += _ids(message, "tool_use", "id")
        found.append(message)
    if calls:
        found.append(_answered({"role": "user", "content": []}, calls))
    return _same_if_same(messages, found)


def with_outputs(items: list[Any]) -> list[Any]:
    """Give the items of a response's `input` with an output for each call; the same list when nothing changes."""
    answered = Counter(item["call_id"] for item in items if _is_output(item))
    found: list[Any] = []
    for item in items:
        found.append(item)
        kind = item.get("type") if isinstance(item, dict) else None
        call_id = item.get("call_id") if isinstance(kind, str) and kind in _OUTPUTS else None
        if not isinstance(call_id, str):
            continue
        if answered[call_id]:
            answered[call_id] -= 1
        else:
            found.append({"type": _OUTPUTS[str(kind)], "call_id": call_id, "output": INTERRUPTED})
    return _same_if_same(items, found)


def _is_output(item: Any) -> bool:
    kind = item.get("type") if isinstance(item, dict) else None
    return kind in _OUTPUTS.values() and isinstance(item.get("call_id"), str)


def _is_empty_text(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "text" and block.get("text") == ""


def _ids(message: Document, kind: str, name: str) -> list[str]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    ids = [block.get(name) for block in blocks if isinstance(block, dict) and block.get("type") == kind]
    return [found for found in ids if isinstance(found, str)]


def _answered(message: Document, calls: list[str]) -> Document:
    """Give the user's turn behind these calls with results for all of them, which stand first."""
    known = set(_ids(message, "tool_result", "tool_use_id"))
    missed = [
        {"type": "tool_result", "tool_use_id": call, "is_error": True, "content": INTERRUPTED}
        for call in dict.fromkeys(calls)
        if call not in known
    ]
    if not missed:
        return message
    content = message.get("content")
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
    results = [block for block in blocks if isinstance(block, dict) and block.get("type") == "tool_result"]
    rest = [block for block in blocks if not (isinstance(block, dict) and block.get("type") == "tool_result")]
    return {**message, "content": [*results, *missed, *rest]}


def _same_if_same(before: list[Any], after: list[Any]) -> list[Any]:
    same = len(before) == len(after) and all(new is old for new, old in zip(after, before, strict=True))
    return before if same else after
