"""System and developer messages, where a chat template takes them: many raise an error behind the first turn."""

from typing import Any, Final

from capstan_contract.config import SystemMessages
from capstan_gateway.dialects.fields import Document

SYSTEM_ROLES: Final = frozenset(("system", "developer"))
_OPENING: Final = "<system-reminder>\n"
_CLOSING: Final = "\n</system-reminder>"
"""The marks by which Claude Code itself says that the system speaks in a user's turn; other models follow them too."""


def place_system(messages: list[Any], how: SystemMessages, *, several: bool = False) -> list[Any]:
    """Give the messages with every system message where it may be; the same list when each is there already.

    First: all join the first one, in their order. AsUser: those that begin the conversation become one, and each other
    becomes a user's turn, marked, at its place: behind the results of the tools that were called before it, and in one
    turn with the user's own words beside it, because templates want user and assistant to take turns. A conversation
    that grows keeps its beginning, so the prefix caches of engines hold. With `several` those at the beginning stay
    apart.
    """
    places = [place for place, message in enumerate(messages) if _role(message) in SYSTEM_ROLES]
    if how is SystemMessages.ANYWHERE or not places:
        return messages
    if places == [0] and _role(messages[0]) == "system":
        return messages
    if how is SystemMessages.FIRST:
        first = joined([messages[place] for place in places], role="system")
        return [first, *(message for message in messages if _role(message) not in SYSTEM_ROLES)]
    leading = next(
        (place for place, message in enumerate(messages) if _role(message) not in SYSTEM_ROLES), len(messages)
    )
    begin = messages[:leading] if several or not leading else [joined(messages[:leading], role="system")]
    return begin + _as_user(messages[leading:])


def as_system(messages: list[Any]) -> list[Any]:
    """Give the messages with `system` as the role of every developer message, which engines do not know."""
    if all(_role(message) != "developer" for message in messages):
        return messages
    return [{**message, "role": "system"} if _role(message) == "developer" else message for message in messages]


def _role(message: Any) -> object:
    role = message.get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) else None


def _as_user(messages: list[Any]) -> list[Any]:
    placed: list[list[Any]] = []
    """Messages, and runs of those that become one: joined in the end, or a long run would be copied for each."""
    held: list[Document] = []
    marked = False
    for message in messages:
        role = _role(message)
        if role in SYSTEM_ROLES:
            held.append(_marked(message))
            continue
        if held and role != "tool":
            marked = _say(placed, held)
            held = []
        if marked and role == "user":
            placed[-1].append(message)
        else:
            placed.append([message])
        marked = marked and role == "user"
    if held:
        _say(placed, held)
    return [run[0] if len(run) == 1 else joined(run, role="user") for run in placed]


def _say(placed: list[list[Any]], reminders: list[Document]) -> bool:
    if placed and _role(placed[-1][0]) == "user":
        placed[-1].extend(reminders)
    else:
        placed.append([*reminders])
    return True


def _marked(message: Document) -> Document:
    return {"role": "user", "content": f"{_OPENING}{_plain(message.get('content'))}{_CLOSING}"}


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "\n".join(text for text in texts if isinstance(text, str))


def joined(messages: list[Document], *, role: str) -> Document:
    """Give one message that says all of these: as a text where each is one, else in parts."""
    contents = [message.get("content") for message in messages]
    if all(isinstance(content, str) for content in contents):
        content: Any = "\n\n".join(content for content in contents if content)
    else:
        content = [part for given in contents for part in _parts(given)]
    return {**messages[0], "role": role, "content": content}


def _parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content if isinstance(content, list) else []
