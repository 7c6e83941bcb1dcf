"""Which answers may be given again."""

from typing import Any

import pytest

from capstan_gateway.caches.storable import is_complete, is_complete_message, is_complete_response

CALL: Any = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def chat(finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    """Give a completion."""
    return {"choices": [{"index": 0, "finish_reason": finish, "message": {"content": "yes", **message}}]}


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (chat(), True),
        (chat("length"), False),
        (chat("content_filter"), False),
        (chat(None), False),
        (chat("of_tomorrow"), False),
        (chat(content=""), False),
        (chat(content=None), False),
        (chat(refusal="I can't help with that."), False),
        (chat(tool_calls=CALL), False),
        (chat("tool_calls", content=None, tool_calls=CALL), False),
        ({**chat(), "error": {"message": "no"}}, False),
        ({"choices": [*chat()["choices"], *chat("length")["choices"]]}, False),
        ({"choices": []}, False),
        ({}, False),
        (None, False),
        ({"choices": [{"text": "yes", "finish_reason": "stop"}]}, True),
        ({"choices": [{"text": "", "finish_reason": "stop"}]}, False),
    ],
)
def test_only_what_has_said_something_and_ended_by_itself_is_kept(answer: Any, kept: bool) -> None:
    """What was cut short, filtered, refused, empty or odd is made anew; calls, too, where tools are left alone."""
    assert is_complete(answer, tools=False) is kept


def test_calls_are_kept_where_tools_are_let_in() -> None:
    """Some engines end them by `stop`."""
    for finish in ("tool_calls", "stop"):
        assert is_complete(chat(finish, content=None, tool_calls=CALL), tools=True)


@pytest.mark.parametrize(
    ("answer", "kept", "with_tools"),
    [
        ({"stop_reason": "end_turn", "content": [{"type": "text"}]}, True, True),
        ({"stop_reason": "end_turn", "content": []}, False, False),
        ({"stop_reason": "max_tokens", "content": [{"type": "text"}]}, False, False),
        ({"stop_reason": "refusal", "content": [{"type": "text"}]}, False, False),
        ({"stop_reason": "pause_turn", "content": [{"type": "text"}]}, False, False),
        ({"stop_reason": "tool_use", "content": [{"type": "tool_use"}]}, False, True),
        ({"stop_reason": "end_turn", "content": [{"type": "server_tool_use"}, {"type": "text"}]}, False, True),
    ],
)
def test_the_same_holds_of_messages(answer: dict[str, Any], kept: bool, with_tools: bool) -> None:
    """In Anthropic's words."""
    assert is_complete_message({"type": "message", **answer}, tools=False) is kept
    assert is_complete_message({"type": "message", **answer}, tools=True) is with_tools


TEXT: Any = {"type": "message", "content": [{"type": "output_text", "text": "yes"}]}
REFUSED: Any = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}


@pytest.mark.parametrize(
    ("answer", "kept", "with_tools"),
    [
        ({"status": "completed", "output": [TEXT]}, True, True),
        ({"status": "completed", "output": []}, False, False),
        ({"status": "incomplete", "output": [TEXT]}, False, False),
        ({"status": "completed", "output": [TEXT], "error": {"code": "x"}}, False, False),
        ({"status": "completed", "output": [REFUSED]}, False, False),
        ({"status": "completed", "output": [{"type": "reasoning"}]}, False, False),
        ({"status": "completed", "output": [{"type": "function_call"}]}, False, True),
    ],
)
def test_the_same_holds_of_responses(answer: dict[str, Any], kept: bool, with_tools: bool) -> None:
    """In OpenAI's words."""
    assert is_complete_response({"object": "response", **answer}, tools=False) is kept
    assert is_complete_response({"object": "response", **answer}, tools=True) is with_tools
