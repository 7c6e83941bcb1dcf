"""Answers as they are put together."""

import json
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_evaluation.runs.stream import Assembly, BadStream, Frames, error_code, parse, read_vectors
from fakes.openai_upstream import delta, stream_frames
from support.answers import Answer as Said
from support.answers import answers, cuts, streamed


@given(st.data())
def test_an_answer_is_the_same_however_its_stream_is_cut(data: st.DataObject) -> None:
    """Text, refusal, end and usage come together from every way of chunks, frames and packets."""
    said: Said = data.draw(answers())
    frames, assembly = Frames(), Assembly()
    for piece in data.draw(cuts(data.draw(streamed(said)))):
        for event in frames.feed(piece):
            if event != b"[DONE]":
                assembly.add(event)
    answer = assembly.answer(seconds=1.0, first=0.5)
    assert (answer.refusal, answer.finishReason) == (said.refusal, said.finish)
    assert answer.text == said.text or answer.text.strip() == said.text.strip()
    assert answer.usage.outputTokens == (said.usage or {}).get("completion_tokens", 0)
    assert answer.usage.cachedInputTokens == (said.usage or {}).get("prompt_tokens_details", {}).get("cached_tokens", 0)


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_an_error(data: bytes) -> None:
    """Whatever a server sends is an answer, or an error with a code."""
    frames, assembly = Frames(), Assembly()
    try:
        for event in frames.feed(b"data: " + data + b"\n\n"):
            assembly.add(event)
    except BadStream:
        return
    assembly.answer(seconds=0, first=None)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(ODD, ODD, ODD)
def test_fields_of_odd_types_are_passed_over(choices: Any, usage: Any, finish: Any) -> None:
    """Engines differ: a field that is not what it should be is none."""
    assembly = Assembly()
    assembly.add(json.dumps({"choices": choices, "usage": usage}).encode())
    assembly.add(json.dumps({"choices": [{"delta": {"content": choices}, "finish_reason": finish}]}).encode())
    assembly.answer(seconds=0, first=None)


def test_half_a_character_is_no_reason_to_fail() -> None:
    """What JSON can say and UTF-8 cannot is replaced, so that the answer can be kept."""
    assembly = Assembly()
    assembly.add(b'{"choices": [{"delta": {"content": "a\\ud800"}}]}')
    assert assembly.answer(seconds=0, first=None).text == "a?"


def test_thoughts_are_a_beginning_and_no_answer() -> None:
    """The first token may be a thought: it counts for the time, and is not in the text."""
    assembly = Assembly()
    assembly.add(json.dumps(delta("m", None)).encode())
    assert not assembly.begun
    assembly.add(b'{"choices": [{"delta": {"reasoning": "hm"}}]}')
    assert assembly.begun
    assert assembly.answer(seconds=0, first=None).text == ""


def test_what_an_answer_cost_is_taken_from_its_usage() -> None:
    """A gateway of Capstan's says it at the end; null and nonsense are nobody's price."""
    for said, cost in (("0.25", 0.25), ("null", None), ('"x"', None), ("-1", None), ("true", None)):
        assembly = Assembly()
        assembly.add(b'{"usage": {"prompt_tokens": 3, "cost": %s}}' % said.encode())
        assert assembly.answer(seconds=0, first=None).usage.cost == cost


def test_an_error_is_told_by_its_code() -> None:
    """Codes and types are short words; a message, which may quote a prompt, is never taken."""
    assert error_code({"error": {"code": "model_not_found", "message": "secret"}}, "x") == "model_not_found"
    assert (
        error_code({"error": {"code": 400, "type": "BadRequestError", "message": "secret"}}, "x") == "BadRequestError"
    )
    assert error_code({"error": "my secret is 5"}, "http_500") == "http_500"
    assert error_code({"error": {"code": "two words"}}, "http_500") == "http_500"


def test_an_answer_without_end_ends() -> None:
    """A stream of more than 16 MiB is an error, and not kept in memory."""
    frames = Frames()
    with pytest.raises(BadStream, match="answer_too_large"):
        list(chain.from_iterable(frames.feed(b"x" * 2**20) for _ in range(20)))


def test_vectors_come_in_the_order_of_their_texts() -> None:
    """A server may answer in any order; one that leaves a text out has not answered."""
    rows = [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1.5, 0]}]
    assert read_vectors({"data": rows}, 2) == ((1.5, 0.0), (2.0,))
    for wrong in ({}, {"data": rows[:1]}, {"data": [{"index": 0, "embedding": "x"}] * 2}):
        with pytest.raises(BadStream):
            read_vectors(wrong, 2)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e39", "9" * 400, '"nan"'])
@pytest.mark.parametrize("form", ['{"index": 0, "embedding": [1, %s]}', '{"index": %s, "embedding": [1]}'])
def test_vectors_are_numbers(form: str, number: str) -> None:
    """A server whose vectors have what is no number, or none that can be kept, has not answered."""
    with pytest.raises(BadStream, match="bad_answer"):
        read_vectors(parse(b'{"data": [%s]}' % (form % number).encode()), 1)


def test_an_error_of_null_is_none() -> None:
    """A server that writes all fields of an envelope, the error that there is not as well, has answered."""
    assembly = Assembly()
    assembly.add(b'{"error": null, "choices": [{"delta": {"content": "4"}, "finish_reason": "stop"}]}')
    assert assembly.answer(seconds=1.0, first=None).text == "4"
    with pytest.raises(BadStream, match="stream_failed"):
        assembly.add(b'{"error": {}}')


def test_the_fake_of_the_tests_speaks_so() -> None:
    """What other tests' engines stream is put together."""
    frames, assembly = Frames(), Assembly()
    for event in frames.feed(b"".join(stream_frames("m")[:-1])):
        assembly.add(event)
    assert assembly.answer(seconds=0, first=None).text == "Hello!"
