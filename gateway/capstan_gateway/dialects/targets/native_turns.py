"""Turns that say nothing and calls without a result, in Anthropic's own form and in that of OpenAI's responses.

Only what these APIs refuse is changed: an agent that was interrupted, or whose other model said nothing, sends it in
every further request of its conversation.
"""

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
    place = 0
    while place < len(messages):
        message = messages[place]
        role = _role(message)
        if role == "user" and calls:
            end = next((at for at in range(place, len(messages)) if _role(messages[at]) == "assistant"), len(messages))
            found += _answered(messages[place:end], calls)
            place, calls = end, []
            continue
        if role == "assistant":
            calls += _ids(message, "tool_use", "id")
        found.append(message)
        place += 1
    if calls:
        found += _answered([{"role": "user", "content": []}], calls)
    return _same_if_same(messages, found)


def with_outputs(items: list[Any]) -> list[Any]:
    """Give the items of a response's `input` with an output for each call; the same list when nothing changes."""
    missed = _unanswered(items)
    found: list[Any] = []
    for place, item in enumerate(items):
        found.append(item)
        if place in missed:
            found.append({"type": _OUTPUTS[item["type"]], "call_id": item["call_id"], "output": INTERRUPTED})
    return _same_if_same(items, found)


def _unanswered(items: list[Any]) -> set[int]:
    """Give the places of calls without an output.

    Where an id comes again an output is that of the first call without one of the newest turn that has such a call.
    """
    waiting: dict[str, list[list[int]]] = {}
    """By their id, and by their turn: places of calls."""
    turns: dict[str, int] = {}
    turn = 0
    for place, item in enumerate(items):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        call_id = item.get("call_id") if isinstance(item, dict) else None
        if isinstance(kind, str) and kind in _OUTPUTS and isinstance(call_id, str):
            places = waiting.setdefault(call_id, [])
            if turns.get(call_id) != turn:
                turns[call_id] = turn
                places.append([])
            places[-1].append(place)
        elif _is_output(item):
            turn += 1
            _take_one(waiting.get(item["call_id"], []))
        elif kind == "message":
            turn += 1
    return {place for places in waiting.values() for left in places for place in left}


def _take_one(places: list[list[int]]) -> None:
    while places and not places[-1]:
        places.pop()
    if places:
        places[-1].pop(0)


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


def _answered(turn: list[Any], calls: list[str]) -> list[Any]:
    """Give the turn behind these calls, which may be several messages, with results for all of them, which stand first.

    A message of which nothing is left goes.
    """
    first, *later = turn
    held = [one for message in turn for one in _blocks(message) if _is_result(one)]
    known = {called for block in held if isinstance(called := block.get("tool_use_id"), str)}
    missed = [
        {"type": "tool_result", "tool_use_id": call, "is_error": True, "content": INTERRUPTED}
        for call in dict.fromkeys(calls)
        if call not in known
    ]
    rest = [block for block in _blocks(first) if not _is_result(block)]
    if not missed and _blocks(first)[: len(held)] == held:
        return turn
    left = [message for message in map(_without_results, later) if message is not None]
    return [{**first, "content": [*held, *missed, *rest]}, *left]


def _without_results(message: Any) -> Any:
    blocks = _blocks(message)
    rest = [block for block in blocks if not _is_result(block)]
    return message if len(rest) == len(blocks) else {**message, "content": rest} if rest else None


def _blocks(message: Any) -> list[Any]:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str) and content:
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def _is_result(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_result"


def _role(message: Any) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _same_if_same(before: list[Any], after: list[Any]) -> list[Any]:
    same = len(before) == len(after) and all(new is old for new, old in zip(after, before, strict=True))
    return before if same else after
