"""How good an answer is."""

import json
import math
from typing import Any

import pytest

from capstan_contract.guards import Aggregate
from capstan_gateway.quality.checks import CUT_OFF, FINE, REFUSED, USELESS, check_answer
from capstan_gateway.quality.combined import combine
from capstan_gateway.quality.judging import judge_request, read_grade
from capstan_gateway.quality.logprobs import (
    Confidence,
    ask_for_logprobs,
    confidence,
    mean_probability,
    without_logprobs,
)
from capstan_gateway.quality.schema import fits
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.replay import to_frames

SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}, "tags": {"type": "array", "items": {"enum": ["a", "b"]}}},
    "required": ["age"],
    "additionalProperties": False,
}
STRUCTURED = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}
TOOLS = {
    "tools": [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "required": ["city"]}}}
    ]
}


def _answer(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": finish, "message": {"content": text, **message}}]}


def _call(name: str, arguments: str) -> dict[str, Any]:
    return _answer(
        None, "tool_calls", tool_calls=[{"type": "function", "function": {"name": name, "arguments": arguments}}]
    )


@pytest.mark.parametrize(
    ("answer", "request_", "score"),
    [
        (_answer("Paris."), {}, FINE),
        (_answer(""), {}, USELESS),
        (_answer("  \n"), {}, USELESS),
        (_answer(None), {}, USELESS),
        ({"choices": []}, {}, USELESS),
        ({}, {}, USELESS),
        ({"choices": [{"text": "Paris", "finish_reason": "stop"}]}, {}, FINE),
        (_answer("I'm sorry, but I can't help with that."), {}, REFUSED),
        (_answer("I cannot assist with this request."), {}, REFUSED),
        (_answer("As an AI language model, I cannot know that."), {}, REFUSED),
        (_answer("I don't know."), {}, REFUSED),
        (_answer(None, refusal="No."), {}, REFUSED),
        (_answer("I'm sorry for your loss. The form is at the town hall."), {}, FINE),
        (_answer("Half an ans", "length"), {}, CUT_OFF),
        (_answer("Half an ans", "length"), {"max_tokens": 3}, FINE),
        (_answer("", "content_filter"), {}, FINE),
        (_answer('{"age": 3}'), STRUCTURED, FINE),
        (_answer('{"age": "three"}'), STRUCTURED, USELESS),
        (_answer('{"age": 3, "more": 1}'), STRUCTURED, USELESS),
        (_answer("age: 3"), STRUCTURED, USELESS),
        (_answer("[1]"), {"response_format": {"type": "json_object"}}, USELESS),
        (_call("weather", '{"city": "Rome"}'), TOOLS, FINE),
        (_call("weather", "{}"), TOOLS, USELESS),
        (_call("weather", '{"city'), TOOLS, USELESS),
        (_call("time", "{}"), TOOLS, USELESS),
        (_answer("no call"), {**TOOLS, "tool_choice": "required"}, USELESS),
    ],
)  # fmt: skip
def test_checks(answer: dict[str, Any], request_: dict[str, Any], score: float) -> None:
    """Emptiness, refusals, broken forms, impossible calls and cut ends are told from answers that are fine."""
    assert check_answer(answer, request_) == score


def test_the_worst_choice_counts() -> None:
    """Of several choices one that is useless makes the answer so."""
    good, bad = _answer("Paris.")["choices"][0], _answer("")["choices"][0]
    assert check_answer({"choices": [good, bad]}, {}) == USELESS


@pytest.mark.parametrize(
    ("value", "schema", "right"),
    [
        (1, {"type": "integer"}, True),
        (1.0, {"type": "integer"}, True),
        (True, {"type": "integer"}, False),
        (None, {"type": ["string", "null"]}, True),
        ({"tags": ["a", "c"], "age": 1}, SCHEMA, False),
        ("x", {"anyOf": [{"type": "integer"}, {"const": "x"}]}, True),
        ("y", {"anyOf": [{"type": "integer"}, {"const": "x"}]}, False),
        ({"any": 1}, {"$ref": "#/$defs/x"}, True),
    ],
)
def test_schemas(value: Any, schema: dict[str, Any], right: bool) -> None:
    """What certainly breaks a schema is told; what is not looked at is taken for kept."""
    assert fits(value, schema) is right


def test_mean_probability() -> None:
    """The score is exp of the mean log-probability, of chats and of completions; of the worst choice; or none."""
    chat = {"choices": [{"logprobs": {"content": [{"logprob": math.log(0.9)}, {"logprob": math.log(0.4)}]}}]}
    assert mean_probability(chat) == pytest.approx(0.6)
    text = {"choices": [{"logprobs": {"token_logprobs": [None, math.log(0.5)]}}]}
    assert mean_probability(text) == pytest.approx(0.5)
    assert mean_probability({"choices": chat["choices"] + text["choices"]}) == pytest.approx(0.5)
    assert mean_probability(_answer("Paris.")) is None


def test_logprobs_are_asked_for_and_taken_out_again() -> None:
    """Whoever asked for them keeps what was asked for."""
    assert ask_for_logprobs({"a": 1}, chat=True) == {"a": 1, "logprobs": True}
    assert ask_for_logprobs({"a": 1}, chat=False) == {"a": 1, "logprobs": 1}
    # Of completions it is the number of the other tokens that are told.
    assert ask_for_logprobs({"logprobs": 0}, chat=False) == {"logprobs": 0}
    assert ask_for_logprobs({"logprobs": None}, chat=False) == {"logprobs": 1}
    assert ask_for_logprobs({"logprobs": False}, chat=True) == {"logprobs": True}
    assert ask_for_logprobs({"logprobs": True, "top_logprobs": 3}, chat=True) == {"logprobs": True, "top_logprobs": 3}
    assert without_logprobs({"choices": [{"logprobs": {"content": []}}]}) == {"choices": [{"logprobs": None}]}


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("0.7", 0.7),
        ("Grade: 1", 1.0),
        ("0", 0.0),
        (".5", 0.5),
        ("<think>0.1? no</think> 0.9", 0.9),
        ("First 0.2, then 0.4.", 0.4),
        ("8", None),
        ("8/10", None),
        ("1.5", None),
        ("great", None),
        ("<think>0.9", None),
    ],
)
def test_grades(text: str, grade: float | None) -> None:
    """A grade is a number from 0 to 1, the last one behind the judge's thoughts; nothing else is one."""
    assert read_grade(_answer(text)) == grade


def test_the_judge_sees_conversation_and_answer_bounded() -> None:
    """The end of the conversation and the beginning of the answer are in the prompt, and no more than allowed."""
    request = {"messages": [{"role": "user", "content": "x" * 50_000 + "the question"}]}
    asked = judge_request(request, _answer("the answer" + "y" * 50_000))
    text = asked["messages"][1]["content"]
    assert "the question" in text
    assert "the answer" in text
    assert len(text) < 17_000


def test_combining_takes_what_is_there() -> None:
    """The mean of the estimators that could tell."""
    assert combine([0.5, None, 1.0]) == 0.75
    assert combine([None]) is None


@pytest.mark.parametrize("usage", [True, False])
def test_frames_are_a_stream_of_the_answer(usage: bool) -> None:
    """A held answer becomes a stream that is complete, says the same, and has usage only when it was asked for."""
    answer = {
        **_answer("Hello", "tool_calls", tool_calls=[{"id": "c", "type": "function", "function": {"name": "f"}}]),
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }  # fmt: skip
    relay = StreamRelay(strip_usage=not usage)
    frames = relay.feed(to_frames(answer, usage=usage))
    assert relay.done
    chunks = [json.loads(frame[6:]) for frame in frames.split(b"\n\n")[:-2]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"]["content"] == "Hello"
    assert chunks[0]["choices"][0]["delta"]["tool_calls"][0]["index"] == 0
    assert chunks[1]["choices"][0]["finish_reason"] == "tool_calls"
    assert (len(chunks) == 3) == usage
    assert not usage or chunks[2]["usage"]["completion_tokens"] == 2


def test_confidence_of_answers_and_streams() -> None:
    """The mean or the least probability of the least sure choice, however the tokens come; None without any."""
    told = [math.log(0.9), math.log(0.4)]
    whole = {"choices": [{"index": 0, "logprobs": {"content": [{"token": "a", "logprob": value} for value in told]}}]}
    assert confidence(whole, Aggregate.MEAN) == pytest.approx(math.sqrt(0.36))
    assert confidence(whole, Aggregate.MINIMUM) == pytest.approx(0.4)
    stream = Confidence()
    for value in told:
        stream.feed({"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [{"logprob": value}]}}]})
    stream.feed({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    stream.feed({"choices": []})
    assert stream.probability(Aggregate.MINIMUM) == pytest.approx(0.4)
    stream.feed({"choices": [{"index": 1, "delta": {}, "logprobs": {"content": [{"logprob": math.log(0.1)}]}}]})
    assert stream.probability(Aggregate.MEAN) == pytest.approx(0.1)
    stream.feed({"choices": [{"index": 2, "delta": {"content": "x"}}]})
    assert stream.probability(Aggregate.MEAN) is None
    assert confidence({"choices": [{"text": "a", "logprobs": {"token_logprobs": [None, 0.5]}}]}, Aggregate.MEAN) == 1.0
    for nothing in ({}, {"choices": []}, {"choices": [3]}, {"choices": [{"logprobs": {"content": [{}]}}]}):
        assert confidence(nothing, Aggregate.MEAN) is None
