"""Whatever form an engine's error has, clients see OpenAI's."""

import json
from typing import Any

import orjson
import pytest

from capstan_gateway.engine_errors import normalise_error, upstream_error_event
from capstan_gateway.envelope import error_payload

REQUEST = "invalid_request_error"


@pytest.mark.parametrize(
    ("status", "body", "wanted"),
    [
        (
            400,
            {"error": {"message": "bad top_p", "type": "BadRequestError", "param": "top_p", "code": 400}},
            {"message": "bad top_p", "type": REQUEST, "param": "top_p", "code": None},
        ),
        (
            400,
            {"object": "error", "message": "bad", "type": "BadRequestError", "param": None, "code": 40301},
            {"message": "bad", "type": REQUEST, "param": None, "code": None},
        ),
        (
            400,
            {"error": {"message": "This model's maximum context length is 8 tokens.", "code": 400}},
            {"type": REQUEST, "param": "messages", "code": "context_length_exceeded"},
        ),
        (
            400,
            {"error": {"message": "blocked", "type": REQUEST, "param": "messages", "code": "content_filter"}},
            {"message": "blocked", "type": REQUEST, "param": "messages", "code": "content_filter"},
        ),
        (404, {"error": {"message": "no such", "code": 404}}, {"code": "model_not_found", "type": REQUEST}),
        (422, {"error": "empty input", "error_type": "validation"}, {"message": "empty input", "type": REQUEST}),
        (
            422,
            {"detail": [{"loc": ["body", "n"], "msg": "Input should be an integer"}]},
            {"message": "n: Input should be an integer"},
        ),
        (429, {"error": {"message": "slow", "code": "429"}}, {"type": "requests", "code": "rate_limit_exceeded"}),
    ],
)
def test_client_errors_keep_their_message(status: int, body: Any, wanted: dict[str, Any]) -> None:
    """A 4xx says what is wrong with the request; code is a string or null, type one of OpenAI's."""
    error = normalise_error(status, orjson.dumps(body))
    envelope = error_payload(error)["error"]
    assert envelope.keys() == {"message", "type", "param", "code"}
    assert {key: envelope[key] for key in wanted} == wanted
    assert error.status == status


@pytest.mark.parametrize(("status", "ours"), [(500, 502), (502, 502), (503, 503), (504, 504), (529, 503), (599, 502)])
def test_engine_failures_keep_their_message_to_themselves(status: int, ours: int) -> None:
    """A 5xx may hold a stack trace or somebody's prompt: clients learn only that the engine failed."""
    error = normalise_error(status, b'{"error":{"message":"secret","code":500}}')
    assert error.status == ours
    assert "secret" not in error.message
    assert error.type == "server_error"


@pytest.mark.parametrize(
    "body", [b"", b"<html>nginx</html>", b"[1]", b'{"error":7}', b'{"error":{"message":{}}}', b"\xff"]
)
def test_answers_that_are_no_errors_still_become_envelopes(body: bytes) -> None:
    """A proxy's HTML page, an empty body, bytes that are not text: never a failure of the gateway's own."""
    error = normalise_error(400, body)
    assert error.message == "the model's engine refused the request (400)"


def test_refused_credentials_are_not_the_clients_fault() -> None:
    """A hosted API's 401 is about the gateway's key: the client must not think that its own is wrong."""
    error = normalise_error(401, b'{"error":{"message":"Incorrect API key provided: sk-abc"}}', external=True)
    assert (error.status, error.code) == (502, "upstream_error")
    assert "sk-abc" not in error.message


@pytest.mark.parametrize("status", [401, 402, 403])
def test_no_refusal_of_the_account_is_told(status: int) -> None:
    """Whatever a hosted API says with these statuses is between it and the operator."""
    error = normalise_error(status, b'{"error":{"message":"pay at acme","code":"billing_hard_limit"}}', external=True)
    assert (error.status, error.code) == (502, "upstream_error")
    assert "acme" not in error.message


@pytest.mark.parametrize(
    "message",
    [
        "Your credit balance is too low to access the Anthropic API.",
        "API key not valid. Please pass a valid API key.",
        "This organization has been deactivated.",
        "Billing hard limit has been reached",
        "You exceeded your current quota",
    ],
)
@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_of_the_account_under_another_status_is_not_the_clients_fault(status: int, message: str) -> None:
    """Some say with a 400 what is about the key or the bill."""
    error = normalise_error(status, orjson.dumps({"error": {"message": message}}), external=True)
    assert (error.status, error.code) == (502, "upstream_error")
    assert message not in error.message
    assert normalise_error(status, orjson.dumps({"error": {"message": message}})).status == status, "an engine of ours"


def test_what_is_in_quotes_may_be_the_clients() -> None:
    """That a request speaks of billing makes no refusal of the account."""
    body = {"error": {"message": "Invalid value: 'billing'. Supported values are: 'a'.", "param": "x"}}
    error = normalise_error(400, orjson.dumps(body), external=True)
    assert (error.status, error.message) == (400, body["error"]["message"])


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "insufficient_quota"])
def test_a_hosted_limit_is_told_without_whose_it_is(code: str) -> None:
    """Status and code stay, so that SDKs do what they should; the numbers are those of the operator's account."""
    message = "Rate limit reached for gpt-4o in organization org-abc123 on tokens per min: Limit 30000, Used 29000."
    error = normalise_error(429, orjson.dumps({"error": {"message": message, "code": code}}), external=True)
    assert (error.status, error.code, error.type) == (429, code, "requests")
    assert not [word for word in ("org-abc123", "30000", "organization") if word in error.message]


@pytest.mark.parametrize("event", [False, True])
def test_a_hosted_refusal_is_told_without_whose_account_it_is(event: bool) -> None:
    """Also inside a stream, and with status 200: what is wrong is told, the ids are not; nor as code or parameter."""
    found = {"message": "no model `x` for org-abc123 (req_01ab23)", "code": "org-abc123", "param": "proj_abc"}
    if event:
        error = upstream_error_event({"error": {**found, "code": 400}}, external=True)
    else:
        error = normalise_error(404, orjson.dumps({"error": found}), external=True)
    assert error.message == "no model `x` for *** (***)"
    assert "abc" not in str(error_payload(error))


@pytest.mark.parametrize("code", ["a\nforged", "two words", "x" * 65, "", "é"])
def test_a_code_is_a_word(code: str) -> None:
    """The code of an answer is logged: text that an engine puts there is not taken for one."""
    assert normalise_error(400, orjson.dumps({"error": {"message": "m", "code": code}})).code is None


@pytest.mark.parametrize("param", ["a\nb", "two words", "x" * 201])
def test_a_parameter_is_a_path(param: str) -> None:
    """The same for the parameter."""
    assert normalise_error(400, orjson.dumps({"error": {"message": "m", "param": param}})).param is None


@pytest.mark.parametrize(
    "form", [{"error": {"message": "?", "code": "content_filter"}}, {"message": "?"}, {"detail": "?"}]
)
def test_the_beginning_of_a_long_error_says_what_it_is(form: dict[str, Any]) -> None:
    """A message that is cut off anywhere is told as far as it came, and its code where that came first."""
    long = 'so "long" \U0001f600 \\ ' * 500
    whole = orjson.dumps(form).replace(b'"?"', json.dumps(long).encode())
    for end in range(3000, 3040):
        error = normalise_error(400, whole[:end])
        assert long.startswith(error.message.rstrip("\N{REPLACEMENT CHARACTER}"))
        assert len(error.message) > 1400
    flat = b'{"object":"error","code":"content_filter","message":"' + b"x" * 70_000
    assert normalise_error(400, flat).code == "content_filter"
    context = b'{"error":{"message":"This model\'s maximum context length is 8 tokens. ' + b"x" * 70_000
    assert normalise_error(400, context).code == "context_length_exceeded"
