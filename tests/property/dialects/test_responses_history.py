"""A conversation that is kept and gone on from says what it would have said if it had been sent at once."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.dialects.clients.responses_history import continued, hosted_items, kept_items
from capstan_gateway.dialects.clients.spoken import RESPONSES
from fakes.openai_upstream import completion

Document = dict[str, Any]
TEXT = st.text(alphabet='ab {}"\\\u00e4\U0001f600\n', min_size=1, max_size=8)
NAMES = st.sampled_from(["f", "g", "read_file"])
PARTS = st.lists(
    st.builds(lambda text: {"type": "input_text", "text": text}, TEXT)
    | st.just({"type": "input_image", "image_url": "data:image/png;base64,QUJD"}),
    min_size=1, max_size=2,
)  # fmt: skip
IDS = st.none() | st.sampled_from(["msg_1", "", 5, {"a": []}])
SAID = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "developer"]), "content": TEXT | PARTS},
    optional={"type": st.just("message"), "id": IDS, "status": st.just("completed")},
)
ANSWER = st.fixed_dictionaries({
    "type": st.just("message"), "role": st.just("assistant"),
    "content": TEXT | st.builds(lambda text: [{"type": "output_text", "text": text, "annotations": []}], TEXT),
})  # fmt: skip
THOUGHT = st.builds(
    lambda text: {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}, TEXT
)
CALLS = st.lists(st.tuples(st.sampled_from(["function_call", "custom_tool_call"]), NAMES, TEXT), min_size=1, max_size=2)


def _called(calls: list[tuple[str, str, str]]) -> list[Document]:
    """Give calls, and behind them their results."""
    items: list[Document] = []
    for at, (kind, name, text) in enumerate(calls):
        field = {"arguments": json.dumps({"x": text})} if kind == "function_call" else {"input": text}
        items.append({"type": kind, "call_id": f"c{at}", "name": name, **field})
    results = [
        {"type": f"{kind}_output", "call_id": f"c{at}", "output": text} for at, (kind, _, text) in enumerate(calls)
    ]
    return [*items, *results]


TURN = st.one_of(
    st.builds(lambda said: [said], SAID),
    st.builds(lambda thought, answer: [*thought, answer], st.lists(THOUGHT, max_size=1), ANSWER),
    st.builds(lambda thought, calls: [*thought, *_called(calls)], st.lists(THOUGHT, max_size=1), CALLS),
)
CONVERSATION = st.lists(TURN, min_size=1, max_size=5).map(lambda turns: [item for turn in turns for item in turn])


def messages(items: Any) -> Any:
    """Translate an input."""
    return RESPONSES.read_request({"model": "m", "input": items})["messages"]


@given(CONVERSATION, st.data())
def test_going_on_is_saying_all_at_once(items: list[Document], data: st.DataObject) -> None:
    """Cut anywhere, kept, written as JSON and gone on from, it is the same chat; so it is after being kept again."""
    at = data.draw(st.integers(0, len(items)))
    kept = json.loads(json.dumps(kept_items({"input": items[:at]}, "n")))
    whole = continued({"model": "m", "input": items[at:]}, kept)["input"]
    assert messages(whole) == messages(items)
    again = kept_items({"input": whole}, "m")
    assert messages(again) == messages(items)
    assert [item["id"] for item in again[:at]] == [item["id"] for item in kept]
    assert all(isinstance(item["id"], str) and item["id"] and item["type"] for item in again)


@given(CONVERSATION)
def test_a_hosted_api_is_told_all_but_thoughts(items: list[Document]) -> None:
    """What goes to a hosted API has no ids of ours, and lacks nothing but what others thought."""
    sent = hosted_items(kept_items({"input": items}, "n"))
    assert not any("id" in item for item in sent)
    assert [item["type"] for item in sent] == [
        item.get("type", "message") for item in items if item.get("type") != "reasoning"
    ]


@given(CONVERSATION, st.lists(st.tuples(NAMES, TEXT), max_size=2), TEXT)
def test_an_answer_is_part_of_what_follows(items: list[Document], calls: list[tuple[str, str]], text: str) -> None:
    """The output of a response, put behind what it answers, is the turn that the model took."""
    called = [
        {"id": f"d{at}", "type": "function", "function": {"name": name, "arguments": json.dumps({"x": given})}}
        for at, (name, given) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text, **({"tool_calls": called} if called else {})}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if called else "stop"}
    response = RESPONSES.write_answer(completion("m", choices=[choice]), {"model": "m", "input": items})
    kept = [*kept_items({"input": items}, "n"), *json.loads(json.dumps(response["output"]))]
    turn = messages(continued({"input": "Go on."}, kept)["input"])[-2]
    assert (turn["role"], turn["content"], turn.get("tool_calls") or []) == ("assistant", text, called)
