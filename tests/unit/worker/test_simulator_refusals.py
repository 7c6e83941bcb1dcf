"""What the simulator refuses, with vLLM's status, shape and words."""

from typing import Any

import pytest

from capstan_worker.simulator.errors import ApiError
from capstan_worker.simulator.requests import parse_body, parse_chat, parse_completion
from capstan_worker.simulator.settings import Dials, SimulatorSettings

SETTINGS = SimulatorSettings(model="sim")
MESSAGES = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "other"}}


def refused(body: dict[str, Any], *, chat: bool = True) -> dict[str, Any]:
    """Give the error with which a request is refused."""
    parse, given = (parse_chat, {"messages": MESSAGES}) if chat else (parse_completion, {"prompt": "Once"})
    with pytest.raises(ApiError) as caught:
        parse({**given, **body}, SETTINGS, Dials())
    assert caught.value.status == 400
    error: dict[str, Any] = caught.value.document["error"]
    assert error["code"] == 400
    return error


@pytest.mark.parametrize(
    ("field", "value", "kind", "says"),
    [
        ("stop", 5, "string_type", "'loc': ('body', 'stop', 'str'), 'msg': 'Input should be a valid string'"),
        ("stop", 5, "list_type", "'loc': ('body', 'stop', 'list[str]'), 'msg': 'Input should be a valid list'"),
        ("stop", ["a", 5], "string_type", "'loc': ('body', 'stop', 'list[str]', 1)"),
        ("stop", list("abcde"), "too_long", "List should have at most 4 items after validation, not 5"),
        ("max_tokens", "many", "int_parsing", "unable to parse string as an integer"),
        ("max_tokens", 1.5, "int_from_float", "got a number with a fractional part"),
        ("max_tokens", [1], "int_type", "Input should be a valid integer"),
        ("temperature", "hot", "float_parsing", "unable to parse string as a number"),
        ("temperature", {}, "float_type", "Input should be a valid number"),
        ("stream", "perhaps", "bool_parsing", "unable to interpret input"),
        ("stream", [], "bool_type", "Input should be a valid boolean"),
        ("logit_bias", {"5": "x"}, "float_parsing", "('body', 'logit_bias', '5')"),
        ("logit_bias", [1], "dict_type", "Input should be a valid dictionary"),
        ("seed", 2**63, "less_than_equal", "less than or equal to 9223372036854775807"),
        ("response_format", {"type": "xml"}, "literal_error", "'text', 'json_object', 'json_schema'"),
        ("n", {}, "int_type", "Input should be a valid integer"),
    ],
)
@pytest.mark.parametrize("chat", [True, False])
def test_a_wrong_type_is_refused_in_pydantics_words(field: str, value: Any, kind: str, says: str, chat: bool):
    """A field of a wrong type is a `Bad Request` that has the place, the kind and what came, and names the field."""
    error = refused({field: value}, chat=chat)
    assert error["type"] == "Bad Request"
    assert error["param"].startswith(f"body.{field}")
    assert f"'type': '{kind}'" in error["message"]
    assert says in error["message"]
    assert error["message"].startswith(("1 validation error:\n  {", "2 validation errors:\n  {"))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"messages": "Hello"}, "'list_type'"),
        ({"messages": [5]}, "('body', 'messages', 0)"),
        ({"messages": [{"content": "x"}]}, "'type': 'missing', 'loc': ('body', 'messages', 0, 'role')"),
        ({"messages": [{"role": "user", "content": 5}]}, "('body', 'messages', 0, 'content', 'str')"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}, {"id": 5}]}]}, "'tool_calls', 1, 'id')"),
        ({"tools": [{"type": "custom", "function": {"name": "x"}}]}, "Input should be 'function'"),
        ({"tools": [{"function": {}}]}, "('body', 'tools', 0, 'function', 'name')"),
        ({"tools": []}, "`tools` must not be an empty array"),
        ({"tool_choice": "always", "tools": [TOOL]}, "Invalid value for `tool_choice`: always!"),
        ({"tool_choice": 7, "tools": [TOOL]}, "Invalid value for `tool_choice`: 7!"),
        ({"tool_choice": {"type": "function"}, "tools": [TOOL]}, "Invalid value for `function`: `None`"),
        ({"tool_choice": NAMED, "tools": [TOOL]}, "does not match any of the specified `tools`"),
        ({"tool_choice": "auto"}, "When using `tool_choice`, `tools` must be set. (parameter=tool_choice)"),
        (
            {"reasoning_effort": "extreme"},
            "Input should be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'",
        ),
        ({"top_logprobs": "x"}, "`top_logprobs` must be an integer."),
        ({"top_logprobs": 3}, "when using `top_logprobs`, `logprobs` must be set to true."),
        ({"stream_options": {"include_usage": True}}, "Stream options can only be defined when `stream=True`."),
        ({"response_format": {"type": "json_schema"}}, "the 'json_schema' field must be provided."),
    ],
)
def test_a_request_that_vllms_rules_exclude_is_refused_as_bad(body: dict[str, Any], says: str):
    """What vLLM's request models refuse is a `Bad Request` with their words."""
    error = refused(body)
    assert error["type"] == "Bad Request"
    assert says in error["message"]
    assert error["param"]


@pytest.mark.parametrize(
    ("body", "says", "param"),
    [
        ({"temperature": 3}, "temperature must be in [0, 2], got 3. (parameter=temperature, value=3)", "temperature"),
        ({"temperature": -1}, "temperature must be non-negative, got -1.", "temperature"),
        ({"temperature": "inf"}, "temperature must be a finite number, got inf.", "temperature"),
        ({"top_p": 0}, "top_p must be in (0, 1], got 0.", "top_p"),
        ({"presence_penalty": 3}, "presence_penalty must be in [-2, 2], got 3.", None),
        ({"min_tokens": 9, "max_tokens": 3}, "min_tokens must be less than or equal to max_tokens=3, got 9.", None),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0.", "max_tokens"),
        ({"n": 0}, "n must be at least 1, got 0.", "n"),
        ({"n": 2, "temperature": 0}, "n must be 1 when using greedy sampling, got 2.", None),
        ({"stop": ["a", ""]}, "stop cannot contain an empty string.", None),
        ({"logit_bias": {"word": 1}}, "Found invalid value in logit_bias", "logit_bias"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "Unexpected message role: 'narrator'.", "messages"),
    ],
)
def test_a_value_that_no_sampler_takes_is_a_bad_request_error(body: dict[str, Any], says: str, param: str | None):
    """What vLLM refuses behind its request models is a `BadRequestError` with its words."""
    error = refused(body)
    assert error["type"] == "BadRequestError"
    assert error["message"].startswith(says)
    assert error["param"] == param


def test_numbers_are_read_as_pydantic_reads_them():
    """Whole floats and numbers in strings are taken, as vLLM takes them."""
    request = parse_chat({"messages": MESSAGES, "max_tokens": "7", "n": 2.0, "stream": 1}, SETTINGS, Dials())
    assert (request.max_tokens, request.n, request.stream) == (7, 2, True)


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff", b'{"a": NaN}', b'{"a": "\\ud800"}'])
def test_what_is_no_json_object_is_refused(body: bytes):
    """A body that is no JSON object is a `Bad Request` with FastAPI's words."""
    with pytest.raises(ApiError) as caught:
        parse_body(body)
    error = caught.value.document["error"]
    assert (caught.value.status, error["type"]) == (400, "Bad Request")
    assert "JSON decode error" in error["message"] or "Input should be a valid dictionary" in error["message"]


def test_an_error_tells_of_few_faults_and_of_each_a_little():
    """A request with a thousand wrong messages gets an error of bounded length."""
    error = refused({"messages": [{"role": 5, "content": "x" * 5000}] * 1000})
    assert len(error["message"]) < 10_000


def test_what_is_nested_too_deeply_is_refused():
    """JSON may be read deeper than it can be written: such a request is refused, wherever the nesting stands."""
    nested: Any = "x"
    for _ in range(400):
        nested = [nested]
    for message in ({"role": "user", "content": [{"type": "image_url", "image_url": nested}]},):
        assert "nested too deeply" in refused({"messages": [message]})["message"]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"a": nested}}}
    assert "nested too deeply" in refused({"tools": [tool]})["message"]
