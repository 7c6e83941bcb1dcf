"""Turns that say nothing and calls without a result, where a client speaks the hosted API's own dialect."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import ExternalBackend, ExternalEndpoint, ModelEntry, Provider
from capstan_gateway.dialects.targets.native import shape_native
from capstan_gateway.dialects.targets.native_turns import spoken, with_outputs, with_results
from capstan_gateway.dialects.targets.target import Target
from capstan_gateway.dialects.targets.turns import INTERRUPTED, NOTHING_SAID

U: dict[str, Any] = {"role": "user", "content": "u"}
EMPTY: dict[str, Any] = {"type": "text", "text": ""}
FILLED: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": NOTHING_SAID}]}
TEXT: dict[str, Any] = {"type": "text", "text": "t"}


def call(*ids: str) -> dict[str, Any]:
    """A turn with these calls."""
    blocks = [{"type": "tool_use", "id": one, "name": "w", "input": {}} for one in ids]
    return {"role": "assistant", "content": [TEXT, *blocks]}


def result(call_id: str) -> dict[str, Any]:
    """What a tool gave."""
    return {"type": "tool_result", "tool_use_id": call_id, "content": "r"}


def missed(call_id: str) -> dict[str, Any]:
    """What stands for a result that never came."""
    return {"type": "tool_result", "tool_use_id": call_id, "is_error": True, "content": INTERRUPTED}


def target(provider: Provider) -> Target:
    """A hosted model."""
    endpoint = ExternalEndpoint(name="one", url="https://api.example.com/v1")
    backend = ExternalBackend(provider=provider, endpoints=(endpoint,))
    return Target.of(ModelEntry(id="ns/m", servedName="m", upstreamName="m", backend=backend))


@pytest.mark.parametrize(
    ("messages", "left"),
    [
        ([U, {"role": "assistant", "content": []}, U], [U, U]),
        ([U, {"role": "assistant", "content": ""}], [U]),
        ([U, {"role": "assistant", "content": [EMPTY, TEXT]}], [U, {"role": "assistant", "content": [TEXT]}]),
        ([{"role": "user", "content": [EMPTY]}], [FILLED]),
        ([{"role": "user", "content": ""}], [FILLED]),
        ([{"role": "user", "content": 5}, "x"], [{"role": "user", "content": 5}, "x"]),
    ],
)
def test_anthropic_gets_no_empty_turn(messages: list[Any], left: list[Any]) -> None:
    """It refuses an empty text, and a turn without content; what is of a wrong type is for it to refuse."""
    assert spoken(messages) == left
    assert spoken(left) is left


@pytest.mark.parametrize(
    ("messages", "fit"),
    [
        ([U, call("a")], [U, call("a"), {"role": "user", "content": [missed("a")]}]),
        ([call("a", "a")], [call("a", "a"), {"role": "user", "content": [missed("a")]}]),
        ([call("a"), U], [call("a"), {"role": "user", "content": [missed("a"), {"type": "text", "text": "u"}]}]),
        (
            [call("a", "b"), {"role": "user", "content": [TEXT, result("b")]}],
            [call("a", "b"), {"role": "user", "content": [result("b"), missed("a"), TEXT]}],
        ),
        ([call("a"), {"role": "user", "content": [result("a"), TEXT]}], None),
        (
            [call("a"), U, {"role": "user", "content": [result("a")]}],
            [call("a"), {"role": "user", "content": [result("a"), {"type": "text", "text": "u"}]}],
        ),
        (
            [call("a"), {"role": "user", "content": [TEXT]}, {"role": "user", "content": [result("a"), TEXT]}],
            [call("a"), {"role": "user", "content": [result("a"), TEXT]}, {"role": "user", "content": [TEXT]}],
        ),
        ([U, {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s"}]}], None),
    ],
)
def test_anthropic_gets_a_result_for_every_call(messages: list[Any], fit: list[Any] | None) -> None:
    """In the turn behind it and in front of what the user says; a conversation that is whole is the same object."""
    assert with_results(messages) == (fit or messages)
    assert (with_results(messages) is messages) is (fit is None)


@pytest.mark.parametrize("odd", [[], {}, None, 5])
def test_a_result_without_an_id_answers_no_call(odd: Any) -> None:
    """Whatever stands for its id: the call gets its answer, and what the client sent stays for the API to judge."""
    given = {**result("a"), "tool_use_id": odd}
    found = with_results([call("a"), {"role": "user", "content": [given]}])
    assert found == [call("a"), {"role": "user", "content": [given, missed("a")]}]


FUNCTION = {"type": "function_call", "call_id": "a", "name": "w", "arguments": "{}"}
CUSTOM = {"type": "custom_tool_call", "call_id": "b", "name": "w", "input": "x"}


def test_openai_gets_an_output_for_every_call() -> None:
    """Codex sends a call that was interrupted in every further request; the outputs that came keep their place."""
    output = {"type": "function_call_output", "call_id": "a", "output": "r"}
    made = {**output, "output": INTERRUPTED}
    plain = {"type": "custom_tool_call_output", "call_id": "b", "output": INTERRUPTED}
    assert with_outputs([FUNCTION, CUSTOM]) == [FUNCTION, made, CUSTOM, plain]
    assert with_outputs([FUNCTION, FUNCTION, U, output]) == [FUNCTION, FUNCTION, made, U, output]
    # Of a call that was interrupted, and the same id again in a later turn, the output is the later one's.
    again = [FUNCTION, {"role": "user", "content": "Again"}, FUNCTION, output]
    assert with_outputs(again) == [FUNCTION, made, *again[1:]]
    whole: list[Any] = [U, FUNCTION, U, output, {"type": "web_search_call", "id": "w"}, "x"]
    assert with_outputs(whole) is whole
    assert with_outputs([output]) == [output]


def test_native_requests_are_what_their_api_takes() -> None:
    """On both routes; a conversation without fault is the very same object."""
    said = {"messages": [U, {"role": "assistant", "content": [EMPTY]}, call("a")]}
    assert shape_native(said, target(Provider.ANTHROPIC))["messages"][-1]["content"] == [missed("a")]
    assert len(shape_native({"input": [FUNCTION]}, target(Provider.OPENAI))["input"]) == 2
    fine: dict[str, Any] = {"messages": [U, call("a"), {"role": "user", "content": [result("a")]}], "input": "x"}
    for provider in (Provider.ANTHROPIC, Provider.OPENAI):
        assert shape_native(fine, target(provider)) is fine


BLOCKS = st.lists(st.sampled_from([TEXT, EMPTY, result("a"), result("b")]), max_size=3)
MESSAGES = st.lists(
    st.sampled_from([call("a"), call("b", "a"), U, {"role": "assistant", "content": ""}])
    | BLOCKS.map(lambda blocks: {"role": "user", "content": blocks}),
    max_size=6,
)


@given(messages=MESSAGES)
def test_every_conversation_becomes_one_that_is_taken(messages: list[Any]) -> None:
    """No turn is empty, each call has a result in the next turn of a user, doing it twice is once, nothing is lost."""
    before = deepcopy(messages)
    found = with_results(spoken(messages))
    assert messages == before
    assert with_results(spoken(found)) is found
    assert all(message["content"] for message in found)
    calls: set[str] = set()
    for message in found:
        blocks = message["content"] if isinstance(message["content"], list) else []
        if message["role"] == "assistant":
            calls |= {block["id"] for block in blocks if block["type"] == "tool_use"}
        else:
            assert calls <= {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
            calls = set()
    assert not calls
    told = sum(block == TEXT for one in messages if isinstance(one["content"], list) for block in one["content"])
    kept = sum(block == TEXT for one in found if isinstance(one["content"], list) for block in one["content"])
    assert told == kept
