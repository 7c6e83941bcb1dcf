"""Turns that say nothing, and calls without a result: what APIs and chat templates refuse of a conversation."""

from collections import Counter
from typing import Any, Final

from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.targets.reasoning import NAMES
from capstan_gateway.dialects.targets.system import SYSTEM_ROLES, joined

NOTHING_SAID: Final = "(no content)"
"""Said in a turn that must say something."""
INTERRUPTED: Final = "[no result: the call was interrupted]"
_SAYING: Final = ("tool_calls", "function_call", "refusal", "audio", *NAMES)
"""What else an assistant's message may be about."""


def without_empty(messages: list[Any], *, translated: bool) -> list[Any]:
    """Give the messages without those of the assistant that say nothing; the same list when nothing changes.

    What a user says before and after such a one becomes one turn, because templates want them to take turns. A user's
    turn of no parts is filled. A `translated` conversation has at least one turn, and no empty text; a client of chat
    completions may send both to an engine.
    """
    found: list[list[Any]] = []
    """Messages, and runs of those that become one: joined in the end, or a long run would be copied for each."""
    changed = gap = False
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if role == "assistant" and _says_nothing(message, translated=translated):
            changed = gap = True
            continue
        kept = _filled(message, translated=translated) if role in ("user", "tool") else message
        changed = changed or kept is not message
        if gap and role == "user" and found and _role(found[-1][0]) == "user":
            found[-1].append(kept)
        else:
            found.append([kept])
        gap = False
    if changed:
        messages = [run[0] if len(run) == 1 else joined(run, role="user") for run in found]
    if translated and all(_role(message) in SYSTEM_ROLES for message in messages):
        return [*messages, {"role": "user", "content": NOTHING_SAID}]
    return messages


def answered(messages: list[Any]) -> list[Any]:
    """Give the messages with the results of every call right behind it, as hosted APIs and the templates of Mistral's
    models want them: those that came later in the same turn are put there, and one that says so stands for each that
    never came. The same list when nothing changes."""
    found: list[Any] = []
    place, end = 0, len(messages)
    while place < end:
        message = messages[place]
        place += 1
        found.append(message)
        calls = _calls(message)
        if not calls:
            continue
        turn = place
        while place < end and _role(messages[place]) != "assistant":
            place += 1
        between = messages[turn:place]
        results = [one for one in between if _role(one) == "tool"]
        left = Counter(one.get("tool_call_id") for one in results if isinstance(one.get("tool_call_id"), str))
        for call in calls:
            if left[call]:
                left[call] -= 1
            else:
                results.append({"role": "tool", "tool_call_id": call, "content": INTERRUPTED})
        found += results
        found += [one for one in between if _role(one) != "tool"]
    same = len(found) == len(messages) and all(new is old for new, old in zip(found, messages, strict=True))
    return messages if same else found


def _role(message: Any) -> object:
    role = message.get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) else None


def _calls(message: Any) -> list[str]:
    calls = message.get("tool_calls") if _role(message) == "assistant" else None
    ids = [call.get("id") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [call_id for call_id in ids if isinstance(call_id, str)]


def _says_nothing(message: Document, *, translated: bool) -> bool:
    content = message.get("content")
    if content == "" and not translated:
        return False  # An engine may be asked to go on from there.
    return _is_empty(content) and not any(message.get(name) for name in _SAYING)


def _is_empty(content: Any) -> bool:
    """Whether nothing is said: no text, no parts, or parts of no text."""
    if not isinstance(content, list):
        return content is None or content == ""
    return all(isinstance(part, dict) and part.get("type") == "text" and part.get("text") == "" for part in content)


def _filled(message: Document, *, translated: bool) -> Document:
    content = message.get("content")
    if not _is_empty(content) or (content == "" and (not translated or message["role"] == "tool")):
        return message
    return {**message, "content": "" if message["role"] == "tool" else NOTHING_SAID}
