"""Turns that say nothing and calls without a result, towards each kind of model."""

from copy import deepcopy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import (
    ExternalBackend,
    ExternalEndpoint,
    ModelEntry,
    Provider,
    StaticBackend,
    SystemMessages,
)
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.dialects.targets.chat import shape
from capstan_gateway.dialects.targets.native_turns import with_outputs, with_results
from capstan_gateway.dialects.targets.system import place_system
from capstan_gateway.dialects.targets.target import Target
from capstan_gateway.dialects.targets.turns import INTERRUPTED, NOTHING_SAID, answered, without_empty
from capstan_gateway.dialects.upstreams.anthropic_request import to_messages_request

U, V = {"role": "user", "content": "u"}, {"role": "user", "content": "v"}
EMPTY = {"role": "assistant", "content": ""}
FILLED = {"role": "user", "content": NOTHING_SAID}


def target(provider: Provider | None = None) -> Target:
    """A model of this kind: without a provider an engine."""
    backend: Any = StaticBackend(urls=())
    if provider is not None:
        backend = ExternalBackend(
            provider=provider, endpoints=(ExternalEndpoint(name="one", url="https://api.example.com/v1"),)
        )
    return Target.of(ModelEntry(id="ns/m", servedName="m", upstreamName="m", backend=backend))


def call(*ids: str) -> dict[str, Any]:
    """A turn with these calls."""
    calls = [{"id": one, "type": "function", "function": {"name": "w", "arguments": "{}"}} for one in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id: str, text: str = "r") -> dict[str, Any]:
    """What a tool gave."""
    return {"role": "tool", "tool_call_id": call_id, "content": text}


@pytest.mark.parametrize(
    ("messages", "left"),
    [
        ([U, EMPTY, V], [{"role": "user", "content": "u\n\nv"}]),
        ([U, EMPTY, V, U], [{"role": "user", "content": "u\n\nv"}, U]),
        ([U, {"role": "assistant", "content": None}], [U]),
        ([U, {**EMPTY, "content": [{"type": "text", "text": ""}]}, V], [{"role": "user", "content": "u\n\nv"}]),
        ([{"role": "user", "content": []}], [FILLED]),
        ([{"role": "user", "content": ""}, call("a"), result("a", "")], [FILLED, call("a"), result("a", "")]),
        ([call("a"), {**result("a"), "content": []}, U], [call("a"), result("a", ""), U]),
        ([], [FILLED]),
        ([{"role": "system", "content": "S"}], [{"role": "system", "content": "S"}, FILLED]),
        ([EMPTY], [FILLED]),
    ],
)  # fmt: skip
def test_turns_that_say_nothing_are_dropped_or_filled(messages: list[Any], left: list[Any]) -> None:
    """An assistant's goes, and the user's around it join; a user's is filled; no conversation is empty."""
    assert without_empty(messages, translated=True) == left


def test_a_client_of_chat_says_what_it_means() -> None:
    """Only what every API refuses is changed: a turn to go on from may be empty, and a user may say nothing."""
    for said in ([U, EMPTY], [{"role": "user", "content": ""}], [{"role": "system", "content": "S"}], [U, call("a")]):
        document = {"messages": said}
        assert shape(document, target(), translated=False) is document
        assert without_empty(said, translated=False) is said
    gone = {"messages": [U, {"role": "assistant", "content": None}, {"role": "user", "content": []}]}
    assert shape(gone, target(), translated=False)["messages"] == [{"role": "user", "content": f"u\n\n{NOTHING_SAID}"}]


@pytest.mark.compatibility(
    table="requests",
    row="a call without a result, also the last of a conversation",
    does="hosted APIs get one that says so",
    sends="Codex after an interrupt",
    source="https://github.com/farion1231/cc-switch/issues/7504",
)
@pytest.mark.parametrize(
    ("messages", "fit"),
    [
        ([U, call("a")], [U, call("a"), result("a", INTERRUPTED)]),
        ([U, call("a", "b"), result("b"), V], [U, call("a", "b"), result("b"), result("a", INTERRUPTED), V]),
        ([U, call("a"), V, result("a")], [U, call("a"), result("a"), V]),
        ([U, call("a", "a"), result("a")], [U, call("a", "a"), result("a"), result("a", INTERRUPTED)]),
        ([call("a"), call("a"), result("a")], [call("a"), result("a", INTERRUPTED), call("a"), result("a")]),
    ],
)
def test_every_call_has_its_result_behind_it(messages: list[Any], fit: list[Any]) -> None:
    """Hosted APIs and Mistral's templates refuse a call without one, also the last of a conversation, and one that
    comes behind other words."""
    assert answered(messages) == fit
    assert answered(fit) is fit
    for provider in (None, Provider.OPENAI, Provider.OPENAI_COMPATIBLE):
        shaped = shape({"messages": messages}, target(provider), translated=True)["messages"][-len(fit) :]
        assert (
            orjson.loads(orjson.dumps(shaped).replace(b'"a_2"', b'"a"')) == fit
        )  # To OpenAI each call has its own id.


MESSAGES_INPUTS: list[list[Any]] = [
    [{"role": "user", "content": []}],
    [{"role": "user", "content": ""}],
    [{"role": "user", "content": "x"}, {"role": "assistant", "content": []}],
    [{"role": "assistant", "content": [{"type": "text", "text": ""}]}],
    [{"role": "user", "content": "x"}, {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}]}],
    [U, {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "w", "input": {}}]}],
]  # fmt: skip
RESPONSES_INPUTS: list[list[Any]] = [
    [{"role": "user", "content": []}],
    [{"role": "user", "content": ""}],
    [{"role": "user", "content": "x"}, {"role": "assistant", "content": []}],
    [{"role": "developer", "content": "x"}],
    [{"role": "user", "content": "x"}, {"type": "function_call", "call_id": "a", "name": "w", "arguments": "{}"}],
]


@pytest.mark.compatibility(
    table="requests",
    row="turns that say nothing",
    does="dropped, or filled with `(no content)`",
    sends="clients",
    source="https://github.com/OpenHands/OpenHands/issues/8685",
)
@pytest.mark.parametrize("provider", [None, *Provider])
@pytest.mark.parametrize(
    "chat",
    [
        *(MESSAGES.read_request({"model": "m", "max_tokens": 9, "messages": messages}) for messages in MESSAGES_INPUTS),
        *(RESPONSES.read_request({"model": "m", "input": items}) for items in RESPONSES_INPUTS),
    ],
)
def test_no_translation_says_nothing(provider: Provider | None, chat: dict[str, Any]) -> None:
    """Whatever the client speaks and whoever answers: there is a turn, none is empty, and hosted calls have results."""
    shaped = shape(chat, target(provider), translated=True)
    if provider is Provider.ANTHROPIC:
        messages = to_messages_request(shaped, model="claude")["messages"]
        assert messages
        assert messages[-1]["role"] == "user"
        for message in messages:
            assert message["content"]
            assert all(block.get("text") != "" for block in message["content"])
        return
    turns = [message for message in shaped["messages"] if message["role"] != "system"]
    assert turns
    assert all(message["content"] or message.get("tool_calls") for message in turns)
    if provider is not None:
        assert "tool_calls" not in turns[-1]


def test_long_conversations_take_no_time_of_their_square() -> None:
    """A hundred thousand turns, of which each is joined to the one before, or has calls of one id, take a moment."""
    many = 60_000
    reminders = [U, {"role": "system", "content": "S"}] * many
    (one,) = place_system(reminders, SystemMessages.AS_USER)
    assert one["content"].count("S") == many
    (one,) = without_empty([U, EMPTY] * many, translated=True)
    assert one["content"].count("u") == many
    calls = call(*map(str, range(many)))
    assert len(answered([calls, *(result(str(n)) for n in reversed(range(many)))])) == many + 1
    thought = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "t"}]}
    called = {"type": "function_call", "call_id": "a", "name": "w", "arguments": "{}"}
    for items in ([thought] * many + [called], [thought, called] * many):
        (message,) = RESPONSES.read_request({"model": "m", "input": items})["messages"]
        assert message["reasoning_content"].count("t") == many
    said = {"role": "assistant", "content": "said" * 10}
    (message,) = RESPONSES.read_request({"model": "m", "input": [called, *[said] * many]})["messages"]
    assert len(message["content"]) == many * 40
    native = {"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]}
    assert len(with_results([native] * many)) == many + 1
    function = {"type": "function_call", "call_id": "a"}
    assert len(with_outputs([function] * many + [{"type": "function_call_output", "call_id": "a"}] * many)) == 2 * many


MESSAGE = st.sampled_from(
    [U, V, EMPTY, FILLED, call("a"), call("a", "b"), call("b"), result("a"), result("b"), {**U, "role": "system"}]
)  # fmt: skip


@given(messages=st.lists(MESSAGE, max_size=8), translated=st.booleans())
def test_nothing_that_is_said_is_lost(messages: list[Any], translated: bool) -> None:
    """Every word, call and result is there behind both steps, once and in order of its kind; doing it twice is once."""
    given = deepcopy(messages)
    found = answered(without_empty(messages, translated=translated))
    assert messages == given
    assert answered(without_empty(found, translated=translated)) == found
    for role in ("assistant", "tool"):
        kept = [one for one in found if one["role"] == role and one["content"] not in ("", INTERRUPTED)]
        assert kept == [one for one in messages if one["role"] == role and one["content"] != ""]
    words = "".join(one["content"].replace("\n\n", "") for one in found if one["role"] == "user")
    told = "".join(one["content"] for one in messages if one["role"] == "user")
    assert words in (told, NOTHING_SAID)


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        ([{"role": "assistant", "content": "Hi"}], [("user", ["(no content)"]), ("assistant", ["Hi"])]),
        ([U, {"role": "assistant", "content": " \n"}, U], [("user", ["u", "u"])]),
        ([{"role": "user", "content": [{"type": "text", "text": text} for text in "\tx"]}], [("user", ["x"])]),
        ([U, {"role": "assistant", "content": "So, \n"}], [("user", ["u"]), ("assistant", ["So,"])]),
    ],
)
def test_anthropic_is_sent_no_blanks_and_the_user_first(messages: list[Any], turns: list[Any]) -> None:
    """It refuses text of nothing but white space, white space at the end, and an assistant that begins."""
    written = to_messages_request({"messages": messages}, model="m")["messages"]
    assert [(turn["role"], [block["text"] for block in turn["content"]]) for turn in written] == turns


def test_what_is_said_behind_a_call_is_of_its_turn() -> None:
    """In chat the results follow the call, so that items of one turn of /v1/responses are one message."""
    said = {"type": "message", "role": "assistant", "content": "Wait"}
    called = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "a", "output": "r"}
    for items, content in (([called, said, output], "Wait"), ([said, called, said, output], "WaitWait")):
        [turn, result] = RESPONSES.read_request({"model": "m", "input": items})["messages"]
        assert (turn["content"], len(turn["tool_calls"]), result["role"]) == (content, 1, "tool")


def test_engines_get_results_behind_their_calls() -> None:
    """What a user says between a call and its result comes behind both, for a template that wants them together."""
    messages = [U, call("a"), V, result("a")]
    assert shape({"messages": messages}, target(), translated=True)["messages"] == [U, call("a"), result("a"), V]
