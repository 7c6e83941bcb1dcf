"""Every body and every event of /v1/responses, against the schemas of the Open Responses specification."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from capstan_gateway.dialects.clients.spoken import Responses
from capstan_gateway.errors import InvalidRequest, UpstreamFailed
from fakes.openai_upstream import completion
from support.dialects import frames, read_responses
from support.openresponses import faults_of_event, faults_of_response
from support.openresponses_suite import faults_in_zod

Document = dict[str, Any]
RESPONSES = Responses(clock=lambda: 1_700_000_000.5)
FUNCTION: Document = {"type": "function", "name": "look", "parameters": {"type": "object"}}
SCHEMA: Document = {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}
ALLOWED: Document = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]}
REQUESTS: dict[str, Document] = {
    "plain": {},
    "sampling": {"temperature": 0, "top_p": 0.5, "presence_penalty": 1, "frequency_penalty": -0.5, "top_logprobs": 2},
    "limits": {"max_output_tokens": 5, "max_tool_calls": 2, "truncation": "auto", "store": True, "metadata": {}},
    "tools": {"tools": [FUNCTION, {**FUNCTION, "name": "two", "strict": None}], "parallel_tool_calls": False},
    "choice": {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "look"}},
    "allowed": {"tools": [FUNCTION], "tool_choice": ALLOWED},
    "reasoning": {"reasoning": {"effort": "low"}, "instructions": "I"},
    "summary": {"reasoning": {"summary": "auto"}, "prompt_cache_key": "k", "safety_identifier": "s"},
    "format": {"text": {"format": SCHEMA}},
    "verbosity": {"text": {"verbosity": "low"}},
}  # fmt: skip
CALL: Document = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
TOKEN: Document = {"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "Hi", "logprob": -0.5}]}
ANSWERS: dict[str, Document] = {
    "text": {"message": {"content": "Hi"}, "finish_reason": "stop"},
    "logprobs": {"message": {"content": "Hi"}, "finish_reason": "stop", "logprobs": {"content": [TOKEN]}},
    "cut": {"message": {"content": "Hi"}, "finish_reason": "length"},
    "filtered": {"message": {"content": ""}, "finish_reason": "content_filter"},
    "calls": {"message": {"content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]}, "finish_reason": "tool_calls"},
    "reasoning": {"message": {"content": "Hi", "reasoning": "Hm", "tool_calls": [CALL]}, "finish_reason": "stop"},
    "refusal": {"message": {"content": None, "refusal": "No"}, "finish_reason": "stop"},
}  # fmt: skip


def whole(name: str) -> Document:
    """Give an answer of an engine."""
    return completion("m", choices=[{"index": 0, **ANSWERS[name]}])


def streamed(name: str, request: Document) -> bytes:
    """Give the same answer as a client's stream."""
    presenter, answer = RESPONSES.presenter(request), whole(name)
    choice = {key: value for key, value in answer["choices"][0].items() if key != "message"}
    delta = dict(answer["choices"][0]["message"])
    if "tool_calls" in delta:
        delta["tool_calls"] = [{**call, "index": at} for at, call in enumerate(delta["tool_calls"])]
    head = {key: answer[key] for key in ("id", "model", "created")}
    stream = presenter.chunk({**head, "choices": [{**choice, "delta": delta}]})
    return stream + presenter.chunk({**head, "choices": [], "usage": answer["usage"]}) + presenter.end()


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("asked", REQUESTS)
def test_bodies_and_events_hold_their_schemas(asked: str, answer: str) -> None:
    """Whatever was asked and answered, the body and each event of the stream are what the specification says."""
    request = {"model": "m", "input": "x", **REQUESTS[asked]}
    RESPONSES.read_request(request)
    assert faults_of_response(RESPONSES.write_answer(whole(answer), request)) == []
    stream = streamed(answer, request)
    assert read_responses(stream)["usage"] is not None
    assert [fault for _, event in frames(stream) for fault in faults_of_event(event)] == []


@pytest.mark.parametrize("error", [UpstreamFailed("died"), InvalidRequest("no", code="context_length_exceeded")])
@pytest.mark.parametrize("begun", [False, True])
def test_failures_hold_their_schemas(error: UpstreamFailed | InvalidRequest, begun: bool) -> None:
    """A stream that fails, begun or not, ends with a response that failed, and then with [DONE]."""
    presenter = RESPONSES.presenter({"model": "m", "input": "x"})
    stream = b""
    if begun:
        stream = presenter.chunk({"id": "1", "choices": [{"index": 0, "delta": {"content": "Hi"}}]})
    stream += presenter.failure(error)
    failed = frames(stream)[-1][1]["response"]
    assert [fault for _, event in frames(stream) for fault in faults_of_event(event)] == []
    assert failed["error"]["code"] == ("server_error" if isinstance(error, UpstreamFailed) else error.code)
    assert stream.endswith(b"data: [DONE]\n\n")


def test_schemas_of_the_suite_hold(tmp_path: Path) -> None:
    """All the same bodies and streams, and one that fails, are what the compliance suite lets pass: it reads in zod."""
    bodies, events = [], []
    for asked, answer in itertools.product(REQUESTS, ANSWERS):
        request = {"model": "m", "input": "x", **REQUESTS[asked]}
        bodies.append(RESPONSES.write_answer(whole(answer), request))
        events += [event for _, event in frames(streamed(answer, request))]
    failed = RESPONSES.presenter({"model": "m", "input": "x"}).failure(UpstreamFailed("died"))
    events += [event for _, event in frames(failed)]
    assert faults_in_zod(tmp_path, bodies, events) == []


def test_schemas_of_the_suite_are_not_blind(tmp_path: Path) -> None:
    """A response and events that lack something are found."""
    response = RESPONSES.write_answer(whole("text"), {"model": "m", "input": "x"})
    lacks = {key: value for key, value in response.items() if key != "top_p"}
    events = [{"type": "response.nothing"}, {"type": "response.completed", "sequence_number": 1, "response": lacks}]
    assert faults_in_zod(tmp_path, [response, lacks], events) == [
        "top_p: Required", "response.nothing is no event", "response.top_p: Required",
    ]  # fmt: skip


def test_schemas_are_not_blind() -> None:
    """A body or an event that lacks something is found: the schemas are really read."""
    response = RESPONSES.write_answer(whole("text"), {"model": "m", "input": "x"})
    assert faults_of_response({key: value for key, value in response.items() if key != "completed_at"})
    assert faults_of_response({**response, "top_p": None})
    assert faults_of_event({"type": "response.nothing", "sequence_number": 1})
    assert faults_of_event({"type": "response.output_text.delta", "sequence_number": 1})
