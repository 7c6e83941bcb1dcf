"""Which requests do more than to be answered."""

from typing import Any

import pytest

from capstan_contract.config import Task
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.pipeline.effects import is_repeatable
from capstan_gateway.pipeline.request import NativeRequest, Request, Route

CHAT = Route("/v1/chat/completions", b"/chat/completions", frozenset((Task.CHAT,)))
ANTHROPIC = Route("/v1/messages", b"/chat/completions", frozenset((Task.CHAT,)), dialect=MESSAGES)
COUNT = Route("/v1/messages/count_tokens", b"/messages/count_tokens", frozenset((Task.CHAT,)), dialect=MESSAGES)
OPENAI = Route("/v1/responses", b"/chat/completions", frozenset((Task.CHAT,)), dialect=RESPONSES)
FUNCTION = {"type": "function", "function": {"name": "f"}}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}


@pytest.mark.parametrize(
    ("route", "document", "repeatable"),
    [
        (CHAT, {}, True),
        (CHAT, {"store": False, "tools": [FUNCTION]}, True),
        (CHAT, {"store": None, "tools": None}, True),
        (CHAT, {"tools": [FUNCTION, {"type": "custom", "custom": {"name": "c"}}]}, True),
        (CHAT, {"store": True}, False),
        (CHAT, {"background": True}, False),
        (CHAT, {"background": False}, True),
        (CHAT, {"web_search_options": {"user_location": None}}, False),
        (CHAT, {"web_search_options": {}}, False),
        (CHAT, {"web_search_options": None}, True),
        (CHAT, {"tools": [FUNCTION, {"type": "nobody-knows"}]}, False),
        (CHAT, {"tools": "nonsense"}, True),
        (CHAT, {"tools": ["nonsense", 1, {"type": 1}, {}]}, True),
        (OPENAI, {"store": False}, True),
        (OPENAI, {"store": True}, False),
        (OPENAI, {}, False),
        (OPENAI, {"store": False, "background": True}, False),
        (OPENAI, {"store": False, "conversation": "conv_1"}, False),
        (OPENAI, {"store": False, "tools": [{"type": "local_shell"}, {"type": "function", "name": "f"}]}, True),
        (OPENAI, {"store": False, "tools": [{"type": "web_search"}]}, False),
        (OPENAI, {"store": False, "tools": [{"type": "code_interpreter", "container": {}}]}, False),
        (OPENAI, {"store": False, "tools": [{"type": "mcp", "server_url": "x"}]}, False),
        (ANTHROPIC, {}, True),
        (ANTHROPIC, {"tools": [{"name": "f", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}]}, True),
        (ANTHROPIC, {"tools": [SEARCH]}, False),
        (ANTHROPIC, {"mcp_servers": [{"url": "x"}]}, False),
        (ANTHROPIC, {"mcp_servers": []}, True),
        (COUNT, {"tools": [SEARCH]}, True),
    ],
)
def test_what_has_effects_is_sent_once(route: Route, document: dict[str, Any], repeatable: bool) -> None:
    """Stored and background answers and tools that the provider runs are not repeated; all else is."""
    native = None if route.dialect is None else NativeRequest(document)
    chat = document if native is None else {}
    request = Request(route, chat, stream=False, usage_asked=False, native=native)
    assert is_repeatable(request, native=native is not None) is repeatable


def test_what_is_sent_decides() -> None:
    """A response that is translated for an engine is stored nowhere, whatever OpenAI's default is."""
    request = Request(OPENAI, {"messages": []}, stream=False, usage_asked=False, native=NativeRequest({"input": "x"}))
    assert is_repeatable(request, native=False)
    assert not is_repeatable(request, native=True)
    chat = {"messages": [], "tools": [FUNCTION]}
    asked = Request(OPENAI, chat, stream=False, usage_asked=False, native=NativeRequest({"input": "x"}))
    assert is_repeatable(asked, native=False)
