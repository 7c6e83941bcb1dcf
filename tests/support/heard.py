"""What a request says to its model, read by the rules of each API, and what those APIs refuse.

Every reader gives the same plain list, so that a conversation and what was made of it can be compared:

    ("system", text)
    ("user", (("text", ...), ("image", url), ("file", name, url)))
    ("assistant", thought, text, ((name, arguments), ...))
    ("results", ((number of the call, text, (images)), ...))

Texts are compared without white space, since dialects join them in their own ways; `spoken` gives them as they are.
Nothing here is the gateway's code.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from support.conversations import Assistant, Conversation, File, Image, Part, Result, System, Text, User

Document = dict[str, Any]
Event = tuple[Any, ...]

_MARKED: Final = re.compile(r"<system-reminder>\n(.*?)\n</system-reminder>", re.DOTALL)
_FILLED: Final = ("(no content)", "(image)", "(file)", "[image follows]")
"""What stands where an API takes nothing empty."""
_INTERRUPTED: Final = "[no result"


def squeezed(text: str) -> str:
    """Give a text without white space."""
    return "".join(text.split())


class _Calls:
    """Which call a result belongs to, when ids come again: the first of the newest turn that has none yet."""

    def __init__(self) -> None:
        self._turns: list[list[tuple[str, int]]] = []

    def called(self, calls: Iterable[tuple[str, Any]]) -> None:
        """Take the calls of one turn: id and arguments."""
        self._turns.append([(call_id, given.get("number", -1)) for call_id, given in calls])

    def answered(self, call_id: str) -> int:
        """Give the number of the call; -1 when there is none."""
        for turn in reversed(self._turns):
            for place, (known, number) in enumerate(turn):
                if known == call_id:
                    del turn[place]
                    return number
        return -1


def said_in(
    conversation: Conversation, *, thoughts: bool, shows: bool = True, tells_failure: bool = False
) -> list[Event]:
    """Give what a target must hear. `shows` says that results may have images; else they are the user's, behind them.

    With `tells_failure` it is put into words that a result is an error.
    """
    events: list[Event] = []
    for turn in conversation:
        if isinstance(turn, System):
            events.append(("system", turn.text))
        elif isinstance(turn, User):
            events.append(("user", tuple(map(_part, turn.parts))))
        elif isinstance(turn, Assistant):
            calls = tuple((call.name, _canonical(call.arguments)) for call in turn.calls)
            events.append(("assistant", turn.thought if thoughts else "", "".join(turn.texts), calls))
        else:
            events.append(("results", tuple(_result(result, shows, tells_failure) for result in turn.results)))
            if not shows:
                events.append(("user", tuple(_part(part) for result in turn.results for part in _images(result))))
    return settled(events)


def _images(result: Result) -> list[Part]:
    return [part for part in result.parts if isinstance(part, Image)]


def _part(part: Part) -> Event:
    if isinstance(part, Text):
        return ("text", part.text)
    return ("file", part.name, part.url) if isinstance(part, File) else ("image", part.url)


def _result(result: Result, shows: bool, tells_failure: bool) -> Event:
    text = "".join(part.text for part in result.parts if isinstance(part, Text))
    text = f"Error: {text}" if tells_failure and result.failed else text
    return (result.call.number, text, tuple(part.url for part in _images(result) if isinstance(part, Image) and shows))


def settled(events: list[Event]) -> list[Event]:
    """Bring what was heard into one form: what one side says in several messages is one, and nothing empty is left.

    Between two turns of the assistant the results come first, as every API wants them.
    """
    runs: list[list[Event]] = [[]]
    for event in events:
        event = _filled(event)
        if event[0] == "assistant" and any(event[1:]):
            runs.append([event])
            runs.append([])
        elif event[0] != "assistant" and event[1]:
            runs[-1].append(event)
    ordered = [event for run in runs for event in sorted(run, key=lambda event: event[0] != "results")]
    together: list[Event] = []
    for event in ordered:
        if together and together[-1][0] == event[0]:
            event = (event[0], *(a + b for a, b in zip(together.pop()[1:], event[1:], strict=True)))
        together.append((event[0], _joined(event[1])) if event[0] == "user" else event)
    return together


def _filled(event: Event) -> Event:
    """Give it without white space, and without what stands for nothing."""
    kind, *rest = event
    if kind == "system":
        return (kind, squeezed(rest[0]))
    if kind == "assistant":
        return (kind, squeezed(rest[0]), squeezed(rest[1]), rest[2])
    if kind == "results":
        return (kind, tuple((number, squeezed(_unfilled(text)), images) for number, text, images in rest[0]))
    return (kind, tuple(part for part in map(_squeezed_part, rest[0]) if part[-1]))


def _squeezed_part(part: Event) -> Event:
    return ("text", squeezed(_unfilled(part[1]))) if part[0] == "text" else part


def _unfilled(text: str) -> str:
    for filled in _FILLED:
        text = text.replace(filled, "")
    return text


def _joined(parts: tuple[Event, ...]) -> tuple[Event, ...]:
    """Put texts that follow each other together."""
    together: list[Event] = []
    for part in parts:
        if part[0] == "text" and together and together[-1][0] == "text":
            together[-1] = ("text", together[-1][1] + part[1])
        else:
            together.append(part)
    return tuple(together)


def systems_first(events: list[Event]) -> list[Event]:
    """Give it with everything that the system says at the beginning."""
    system = [event for event in events if event[0] == "system"]
    return settled([*system, *(event for event in events if event[0] != "system")])


def _canonical(given: Any) -> str:
    return json.dumps(given, sort_keys=True)


# --- readers --------------------------------------------------------------------------------------------------------


def heard_in_chat(request: Document) -> list[Event]:
    """Read a request of chat completions."""
    events: list[Event] = []
    calls = _Calls()
    for message in request["messages"]:
        role, content = message["role"], message.get("content")
        if role in ("system", "developer"):
            events.append(("system", "".join(part[1] for part in _chat_parts(content))))
        elif role == "user":
            events.extend(_of_user(_chat_parts(content)))
        elif role == "assistant":
            made = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in _calls(message)]
            calls.called(zip((call["id"] for call in _calls(message)), (given for _, given in made), strict=True))
            text = "".join(part[1] for part in _chat_parts(content))
            thought = message.get("reasoning_content") or message.get("reasoning") or ""
            events.append(("assistant", thought, text, tuple((name, _canonical(given)) for name, given in made)))
        else:
            parts = _chat_parts(content)
            number = calls.answered(message["tool_call_id"])
            if not str(content).startswith(_INTERRUPTED):
                events.append(("results", (_heard_result(number, parts),)))
    return settled(events)


def _calls(message: Document) -> list[Document]:
    return message.get("tool_calls") or []


def _heard_result(number: int, parts: list[Event]) -> Event:
    return (
        number,
        "".join(part[1] for part in parts if part[0] == "text"),
        tuple(part[1] for part in parts if part[0] == "image"),
    )


def _chat_parts(content: Any) -> list[Event]:
    if content is None or isinstance(content, str):
        return [("text", content or "")]
    parts: list[Event] = []
    for part in content:
        if part["type"] == "text":
            parts.append(("text", part["text"]))
        elif part["type"] == "image_url":
            parts.append(("image", part["image_url"]["url"]))
        else:
            assert part["type"] == "file"
            parts.append(("file", part["file"].get("filename"), part["file"]["file_data"]))
    return parts


def _of_user(parts: list[Event]) -> Iterator[Event]:
    """Give what a user's turn says, and what the system says in it."""
    for part in parts:
        if part[0] != "text":
            yield ("user", (part,))
            continue
        for place, text in enumerate(_MARKED.split(part[1])):
            yield ("system", text) if place % 2 else ("user", (("text", text),))


def heard_in_messages(request: Document) -> list[Event]:
    """Read a request of Anthropic's Messages API."""
    events: list[Event] = [("system", part[1]) for part in _blocks(request.get("system") or [])]
    calls = _Calls()
    for message in request["messages"]:
        blocks = _listed(message["content"])
        if message["role"] == "assistant":
            used = [block for block in blocks if block["type"] == "tool_use"]
            calls.called((block["id"], block["input"]) for block in used)
            made = tuple((block["name"], _canonical(block["input"])) for block in used)
            texts, thoughts = (
                "".join(block[kind] for block in blocks if block["type"] == kind) for kind in ("text", "thinking")
            )
            events.append(("assistant", thoughts, texts, made))
            continue
        for block in blocks:
            if block["type"] != "tool_result":
                of_system = message["role"] in ("system", "developer")
                events.extend([("system", block["text"])] if of_system else _of_user(_blocks([block])))
                continue
            content = block.get("content") or []
            number = calls.answered(block["tool_use_id"])
            result = _heard_result(number, _blocks(content))
            if not result[1].startswith(_INTERRUPTED):
                events.append(("results", (result,)))
    return settled(events)


def _listed(content: Any) -> list[Document]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _blocks(content: Any) -> list[Event]:
    parts: list[Event] = []
    for block in _listed(content):
        if block["type"] == "text":
            parts.append(("text", block["text"]))
            continue
        source = block["source"]
        inline = source["type"] == "base64"
        url = f"data:{source['media_type']};base64,{source['data']}" if inline else source["url"]
        parts.append(("image", url) if block["type"] == "image" else ("file", block.get("title"), url))
    return parts


def heard_in_responses(request: Document) -> list[Event]:
    """Read a request of OpenAI's Responses API."""
    events: list[Event] = []
    calls = _Calls()
    waiting: list[tuple[str, Any]] = []
    for item in request["input"]:
        kind = item["type"]
        if kind == "function_call":
            given = json.loads(item["arguments"])
            waiting.append((item["call_id"], given))
            events.append(("assistant", "", "", ((item["name"], _canonical(given)),)))
            continue
        calls.called(waiting)
        waiting = []
        if kind == "message":
            parts = _input_parts(item["content"])
            text = "".join(part[1] for part in parts if part[0] == "text")
            said = ("assistant", "", text, ()) if item["role"] == "assistant" else ("system", text)
            events.append(("user", tuple(parts)) if item["role"] == "user" else said)
        elif kind == "reasoning":
            events.append(("assistant", "".join(part["text"] for part in item["content"]), "", ()))
        else:
            number = calls.answered(item["call_id"])
            if not str(item["output"]).startswith(_INTERRUPTED):
                events.append(("results", (_heard_result(number, _input_parts(item["output"])),)))
    return settled(events)


def _input_parts(content: Any) -> list[Event]:
    if isinstance(content, str):
        return [("text", content)]
    parts: list[Event] = []
    for part in content:
        if part["type"] == "input_image":
            parts.append(("image", part["image_url"]))
        elif part["type"] == "input_file":
            parts.append(("file", part["filename"], part["file_data"]))
        else:
            parts.append(("text", part["text"]))
    return parts
