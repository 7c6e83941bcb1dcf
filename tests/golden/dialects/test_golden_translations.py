"""Requests and answers in one dialect, and what they are in another: reviewed, one file each.

Write the translations again, and look at the difference, with: UPDATE_GOLDEN=1 pytest tests/golden/dialects
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from capstan_gateway.dialects.clients import messages_request, responses_request
from capstan_gateway.dialects.clients.messages_answer import to_message
from capstan_gateway.dialects.clients.responses_answer import to_response
from capstan_gateway.dialects.upstreams.anthropic_answer import to_chat_completion
from capstan_gateway.dialects.upstreams.anthropic_request import to_messages_request

HERE = Path(__file__).parent
TRANSLATIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "chat_to_messages": lambda given: to_messages_request(given, model="claude-x"),
    "messages_to_chat": messages_request.to_chat_request,
    "responses_to_chat": responses_request.to_chat_request,
    "chat_to_message": lambda given: to_message(given["completion"]),
    "chat_to_response": lambda given: to_response(given["completion"], given["request"], now=1_700_000_009),
    "message_to_chat": lambda given: orjson.loads(
        to_chat_completion(orjson.dumps(given), model="served", created=1_700_000_000)[0]
    ),
}


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_translation_is_the_reviewed_one(name: str) -> None:
    """Everything that a request or an answer can hold arrives where it should."""
    file = HERE / f"{name}.json"
    case = json.loads(file.read_text())
    translated = TRANSLATIONS[name](case["given"])
    if os.environ.get("UPDATE_GOLDEN"):
        case = {"given": case["given"], "translated": translated}
        file.write_text(json.dumps(case, indent=2, ensure_ascii=False) + "\n")
    assert translated == case["translated"]


def test_messages_survive_the_way_through_chat_and_back() -> None:
    """Images, tools and their results are the same after a conversation became chat and Anthropic's again."""
    given = json.loads((HERE / "messages_to_chat.json").read_text())["given"]
    given.pop("min_p")  # Of engines only, and refused on the way back.
    back = to_messages_request(messages_request.to_chat_request(given), model="llama")
    kept = ("max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "metadata", "tool_choice")
    assert {key: back[key] for key in kept} == {key: given[key] for key in kept}
    assert [tool["name"] for tool in back["tools"]] == ["weather", "now"]
    assert [turn["role"] for turn in back["messages"]] == [turn["role"] for turn in given["messages"]]
    calls = [block for block in back["messages"][1]["content"] if block["type"] == "tool_use"]
    assert calls == given["messages"][1]["content"][2:]
    results = [block["tool_use_id"] for block in back["messages"][2]["content"] if block["type"] == "tool_result"]
    assert results == ["toolu_1", "toolu_2"]
    assert back["messages"][0]["content"][:3] == given["messages"][0]["content"][:3]
