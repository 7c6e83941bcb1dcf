"""What a chat request says that matters to reading its answer."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from capstan_gateway.streaming.call_parts import function_of, text_in


class Asked:
    """One request, of which only that is read which an answer asks about: most ask about nothing."""

    def __init__(self, document: Mapping[str, Any], *, chat: bool, client_reads_chat: bool = False) -> None:
        self._document = document
        self.chat: Final = chat
        """Whether it asks for a chat completion, whose chunks have a delta."""
        self.single: Final = chat and document.get("n") in (None, 1)
        """Whether one answer was asked for, so that whatever comes belongs to it: some engines number tokens where the
        number of the choice should be, or put an answer's parts into a choice each."""
        self.client_reads_chat: Final = client_reads_chat
        """Whether a client of chat completions gets the answer; another dialect has names of its own."""

    @cached_property
    def tools(self) -> frozenset[str]:
        """The names of the tools that were offered."""
        tools = self._document.get("tools")
        given = tools if isinstance(tools, list) else ()
        return frozenset(
            name for tool in given if isinstance(tool, dict) and (name := text_in(function_of(tool), "name"))
        )

    @cached_property
    def call_ids(self) -> frozenset[str]:
        """The ids of the calls in the conversation so far."""
        messages = self._document.get("messages")
        found: set[str] = set()
        for message in messages if isinstance(messages, list) else ():
            calls = message.get("tool_calls") if isinstance(message, dict) else None
            for call in calls if isinstance(calls, list) else ():
                if isinstance(call, dict):
                    found.add(text_in(call, "id"))
        return frozenset(found)

    def begins_another(self, known: str, name: str) -> bool:
        """Whether a call of `known` that is followed by this name is over: it is a tool, and both together are none."""
        if name not in self.tools or name.startswith(known):
            return False
        joined = known + name
        return not any(tool.startswith(joined) for tool in self.tools)


NOTHING: Final = Asked({}, chat=False)
"""Where nobody knows what was asked for."""
