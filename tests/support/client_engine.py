"""An engine that answers client libraries by what they ask, not by turns: what each one does has a name in its prompt.

A prompt begins with `[ROW|DOES]`, as tests/clients/scenarios.py and its brothers write it.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from support.agent_engine import TOO_LONG, TOO_MANY, AgentEngine, Call, Say, Step, Use, tools_of

TEXT: Final = "Hello from the engine."
CALLS: Final = (Call("weather", {"city": "Oslo"}), Call("weather", {"city": "Rome"}))
WORDS: Final = "I look at both."
THOUGHT: Final = "Two cities, two calls."
DONE: Final = "It is 7 degrees in Oslo and 21 in Rome."
OBJECT: Final = {"city": "Oslo", "degrees": 7}
SEEN: Final = "A red square."
_NAME: Final = re.compile(r"\[([^|\]]+)\|([^\]]+)\]")


@dataclass
class ClientEngine(AgentEngine):
    """Calls tools where tools are wanted, writes an object where one is, refuses where an error is."""

    def next_step(self, body: dict[str, Any]) -> tuple[int, Step]:
        """Give the number of this answer, unlike all others, and what it is."""
        with self._lock:
            self.answers += 1
            self.asked.append(body)
            return self.answers, answer_to(body)

    def asked_by(self, row: str, does: str) -> list[dict[str, Any]]:
        """Give the requests of one client for one purpose, in their order."""
        return [body for body in self.asked if purpose_of(body)[:2] == (row, does)]


def purpose_of(body: dict[str, Any]) -> tuple[str, str, str]:
    """Read who asks, for what, and the words behind it, in the first turn of the user."""
    text = next((_text(message) for message in body["messages"] if message["role"] == "user"), "")
    found = _NAME.search(text)
    return (found[1], found[2], text[found.end() :]) if found else ("", "", text)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    parts = [content] if isinstance(content, str) else [part.get("text") or "" for part in content]
    return "".join(parts)


def answer_to(body: dict[str, Any]) -> Step:
    """Choose the answer; an object is written as text, or as a call of the tool that takes it, as the client wants."""
    _, does, words = purpose_of(body)
    if does == "errors":
        return TOO_MANY if "busy" in words else TOO_LONG
    if does == "tools":
        return Say(DONE) if body["messages"][-1]["role"] == "tool" else Use(CALLS, WORDS, THOUGHT)
    if body.get("response_format"):
        return Say(json.dumps(OBJECT))
    if tools := tools_of(body):
        return Use((Call(next(iter(tools)), dict(OBJECT)),))
    return Say(SEEN if does == "images" else TEXT)
