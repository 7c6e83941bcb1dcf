"""Which form of a chunk is taken, what is text in it, and what each fault is called."""

from typing import Any

import orjson
import pytest

from capstan_gateway.streaming.deltas import Said, check_answer, choices_of, said_in, texts_of
from capstan_gateway.streaming.errors import StreamBroken


def texts(**choice: Any) -> list[str]:
    """Give the texts of one choice."""
    return list(texts_of(choice))


CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        ({}, []),
        ({"text": None, "delta": None, "finish_reason": None}, []),
        ({"text": "a"}, ["a"]),
        ({"text": "a", "delta": {"content": "b"}}, ["a", "b"]),
        ({"delta": {}}, []),
        ({"delta": {"role": "assistant"}}, []),
        ({"delta": dict.fromkeys(("content", "refusal", "role", "tool_calls", "function_call"))}, []),
        ({"delta": {"content": "a", "reasoning_content": "b", "refusal": "d"}}, ["a", "b", "d"]),
        ({"delta": {"content": "a", "reasoning_content": "b", "reasoning": "b"}}, ["a", "b"]),
        ({"delta": {"reasoning": {"summary": "a", "text": None}}}, ["a"]),
        ({"delta": {"thinking": "a", "reasoning_text": ""}}, ["a"]),
        ({"delta": {"reasoning_details": [{"type": "reasoning.text", "text": "a"}]}}, []),
        ({"delta": {"content": [{"type": "text", "text": "a"}, {"text": None}, {"thinking": "b"}]}}, ["a", "b"]),
        ({"delta": {"content": [{"thinking": [{"text": "a"}, {"text": "b"}]}, {"text": "c"}]}}, ["a", "b", "c"]),
        ({"delta": {"function_call": {"name": "f", "arguments": "{}"}}}, ["f", "{}"]),
        ({"delta": {"function_call": {"name": None, "arguments": None}}}, []),
        ({"delta": {"tool_calls": [CALL, {"index": 1}, {"function": {"arguments": {"a": 1}}}]}},
         ["f", '{"a":1}', '{"a":1}']),
        ({"delta": {"tool_calls": [{"index": None, "id": None, "type": None, "function": None}]}}, []),
        ({"delta": {"other": 7}, "finish_reason": "stop"}, []),
    ],
)  # fmt: skip
def test_all_that_a_model_says_is_text(choice: dict[str, Any], found: list[str]) -> None:
    """Content, thoughts, refusals, names and arguments of calls; `null` in any field says nothing.

    Thoughts that are told under two names count once.
    """
    assert texts(**choice) == found


@pytest.mark.parametrize(
    ("choice", "fault"),
    [
        ({"text": 7}, "`text` must be a string"),
        ({"finish_reason": 7}, "`finish_reason` must be a string"),
        ({"delta": 7}, "`delta` must be an object"),
        ({"delta": "x"}, "`delta` must be an object"),
        ({"delta": {"content": 7}}, "`content` must be a string"),
        ({"delta": {"content": {}}}, "`content` must be a string"),
        ({"delta": {"content": ["x"]}}, "`content` must be a string, or a list of objects"),
        ({"delta": {"content": [{"text": 7}]}}, "`text` must be a string"),
        ({"delta": {"content": [{"thinking": 7}]}}, "`thinking` must be a string"),
        ({"delta": {"content": [{"thinking": ["x"]}]}}, "`content` must be a string, or a list of objects"),
        ({"delta": {"reasoning_content": 7}}, "`reasoning_content` must be a string"),
        ({"delta": {"reasoning": []}}, "`reasoning` must be a string"),
        ({"delta": {"refusal": {}}}, "`refusal` must be a string"),
        ({"delta": {"role": 7}}, "`role` must be a string"),
        ({"delta": {"function_call": "x"}}, "`function_call` must be an object"),
        ({"delta": {"function_call": {"name": 7}}}, "`name` must be a string"),
        ({"delta": {"function_call": {"arguments": 7}}}, "`arguments` must be a string"),
        ({"delta": {"tool_calls": {}}}, "`tool_calls` must be a list"),
        ({"delta": {"tool_calls": ["x"]}}, "`tool_calls` must be a list of objects"),
        ({"delta": {"tool_calls": [{"index": "0"}]}}, "`tool_calls.index` must be a whole number"),
        ({"delta": {"tool_calls": [{"index": True}]}}, "`tool_calls.index` must be a whole number"),
        ({"delta": {"tool_calls": [{"id": 7}]}}, "`id` must be a string"),
        ({"delta": {"tool_calls": [{"type": 7}]}}, "`type` must be a string"),
        ({"delta": {"tool_calls": [{"function": "x"}]}}, "`tool_calls.function` must be an object"),
        ({"delta": {"tool_calls": [{"function": {"arguments": 7}}]}}, "`arguments` must be a string"),
    ],
)
def test_what_no_client_could_read_is_named(choice: dict[str, Any], fault: str) -> None:
    """The sentence has the field and what it must be, and nothing of what was in it."""
    with pytest.raises(StreamBroken) as broken:
        texts(**choice)
    assert str(broken.value) == f"the model's engine sent a malformed answer: {fault}"


def test_choices_are_a_list_of_objects() -> None:
    """None of them is none; anything else is named."""
    assert choices_of({}) == choices_of({"choices": None}) == choices_of({"choices": []}) == []
    assert choices_of({"choices": [{"index": 1}]}) == [{"index": 1}]
    for choices, fault in (({}, "a list"), ("x", "a list"), ([{}, 7], "a list of objects")):
        with pytest.raises(StreamBroken, match=rf"`choices` must be {fault}$"):
            choices_of({"choices": choices})


def test_a_stream_is_known_by_what_its_choices_said() -> None:
    """Which have begun, which are over, and whether there is just one that goes on."""
    said = Said()
    assert (said.begun, said.whole, said.open_choice) == (False, False, None)
    said.note([{"delta": {"role": "assistant", "content": ""}}])
    assert (said.begun, said.whole, said.open_choice, said.unfinished) == (False, False, None, {0})
    said.note([{"index": 0, "delta": {"content": "abcd"}}])
    assert (said.begun, said.open_choice, said.text.tokens) == (True, 0, 1)
    said.note([{"index": 3, "delta": {"content": "e"}}])
    assert (said.open_choice, said.unfinished, said.text.ascii) == (None, {0, 3}, 5)
    said.note([{"index": 0, "finish_reason": "stop", "delta": {}}, {"index": 5, "finish_reason": "length"}])
    assert (said.whole, said.open_choice, said.finished) == (False, 3, {0, 5})
    said.note([{"index": 0, "delta": {}}])
    assert (said.open_choice, said.unfinished) == (3, {3})
    said.note([{"index": 3, "finish_reason": "stop"}])
    assert (said.whole, said.open_choice) == (True, None)


def test_a_finish_without_text_is_a_beginning() -> None:
    """An answer that is empty is one: its client need not wait for a first token that never comes."""
    said = Said()
    said.note([{"finish_reason": "stop"}])
    assert (said.begun, said.whole) == (True, True)


@pytest.mark.parametrize("index", ["0", 0.0, True, [], {}])
def test_an_index_is_a_whole_number(index: object) -> None:
    """Whatever else stands there belongs to no choice."""
    with pytest.raises(StreamBroken, match="`index` must be a whole number"):
        Said().note([{"index": index}])


ANSWER = {"choices": [{"message": {"content": "abcd"}}, {"text": "efgh", "message": None}, {}]}


@pytest.mark.parametrize(
    ("document", "tokens", "fault"),
    [
        (ANSWER, 2, ""),
        ({}, 0, ""),
        ([ANSWER], 0, ""),
        ({"choices": 7}, 0, "`choices` must be a list"),
        ({"choices": [{"message": {"content": "abcd"}}, {"message": 7}]}, 1, "`message` must be an object"),
        ({"choices": [{"message": {"content": 7}}]}, 0, "`content` must be a string"),
    ],
)
def test_a_whole_answer_is_read_as_its_stream_would_be(document: Any, tokens: int, fault: str) -> None:
    """Its text is counted as far as it makes sense; whoever has to translate it is told what does not."""
    body = orjson.dumps(document)
    assert said_in(body).tokens == tokens
    if not fault:
        check_answer(body)
        return
    with pytest.raises(StreamBroken, match=fault):
        check_answer(body)


def test_what_is_no_json_is_somebody_elses_to_see() -> None:
    """Nothing is counted in it, and nothing is said about it."""
    assert said_in(b"{").tokens == 0
    check_answer(b"{")
