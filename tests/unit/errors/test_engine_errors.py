"""Whatever form an engine's error has, clients see OpenAI's."""

from typing import Any

import orjson
import pytest

from capstan_gateway.engine_errors import normalise_error
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
