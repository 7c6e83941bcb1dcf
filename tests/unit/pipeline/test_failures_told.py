"""What went wrong inside, and what the client is told of it."""

import logging

import pytest

from capstan_gateway.errors import (
    GatewayError,
    InvalidRequest,
    ModelNotReady,
    Overloaded,
    UpstreamFailed,
    UpstreamTimeout,
)
from capstan_gateway.pipeline.failures import to_gateway_error
from capstan_gateway.routing.unroutable import KeyMissing, NoCredential, NoEndpoint, RoutingError, TooManyWaiting
from capstan_gateway.upstream.errors import (
    BodyBroken,
    BodyTooLarge,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineKind,
    NoMemory,
    ProtocolError,
    TooManyConnections,
)

LATER = ((b"retry-after", b"7"), (b"retry-after-ms", b"7000"))
SOON = ((b"retry-after", b"1"), (b"retry-after-ms", b"1000"))
NO_KEY = "the gateway has no credentials for this hosted model"
BROKE_OFF = "the model's engine broke off before its answer was complete"


@pytest.mark.parametrize(
    ("error", "kind", "status", "code", "message", "headers"),
    [
        (NoEndpoint("m", retry_after=7), ModelNotReady, 503, "model_not_ready",
         "the model has no ready endpoint; try again later", LATER),
        (NoCredential("m", retry_after=7), UpstreamFailed, 502, "upstream_error", NO_KEY, ()),
        (TooManyWaiting("m", retry_after=7), GatewayError, 429, "rate_limit_exceeded",
         "too many requests wait for this model", LATER),
        (RoutingError("m", retry_after=7), Overloaded, 503, "overloaded",
         "the request could not be given to the model", LATER),
        (DeadlineExceeded("e", DeadlineKind.CONNECT), UpstreamTimeout, 504, "timeout",
         "the model's engine did not accept a connection in time", ()),
        (DeadlineExceeded("e", DeadlineKind.FIRST_TOKEN), UpstreamTimeout, 504, "timeout",
         "the model did not begin to answer in time", ()),
        (DeadlineExceeded("e", DeadlineKind.IDLE), UpstreamTimeout, 504, "timeout",
         "the model stopped answering", ()),
        (DeadlineExceeded("e", DeadlineKind.TOTAL), UpstreamTimeout, 504, "timeout",
         "the model did not finish its answer in time", ()),
        (KeyMissing("e", "r"), UpstreamFailed, 502, "upstream_error", NO_KEY, ()),
        (ConnectFailed("e", "r"), UpstreamFailed, 502, "upstream_error",
         "the model's engine could not be reached", ()),
        (TooManyConnections("e", "r"), UpstreamFailed, 502, "upstream_error",
         "the model's engine could not be reached", ()),
        (NoMemory("e", "r"), Overloaded, 503, "overloaded",
         "the gateway holds as much as it may; try again", SOON),
        (BodyTooLarge("e", "r"), UpstreamFailed, 502, "upstream_error", "the model's answer is too large", ()),
        (BodyBroken("e", "r"), UpstreamFailed, 502, "upstream_error", BROKE_OFF, ()),
        (ConnectionLost("e", "r"), UpstreamFailed, 502, "upstream_error", BROKE_OFF, ()),
        (ProtocolError("e", "r"), UpstreamFailed, 502, "upstream_error", BROKE_OFF, ()),
    ],
)  # fmt: skip
def test_what_is_told_of_a_failure(
    error: Exception, kind: type[GatewayError], status: int, code: str, message: str, headers: object
) -> None:
    """Each has its status, its code, words that name no endpoint, and when to come back where that helps."""
    told = to_gateway_error(error, request_id="r")
    assert type(told) is kind
    assert (told.status, told.code, told.message, told.headers) == (status, code, message, headers)
    assert told.type == ("requests" if status == 429 else "server_error")


def test_what_is_an_answer_already_stays_what_it_is() -> None:
    """The same error, not another one that looks like it."""
    error = InvalidRequest("no")
    assert to_gateway_error(error, request_id="r") is error


def test_a_bug_is_told_as_such_and_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The client learns where to look and nothing of what happened, the log has it with the request's id."""
    caplog.set_level(logging.ERROR)
    bug = LookupError("secret")
    told = to_gateway_error(bug, request_id="req_1")
    assert (type(told), told.status, told.code) == (GatewayError, 500, "internal_error")
    assert told.message == "the gateway failed; the request id says where to look in its log"
    (line,) = caplog.records
    assert line.exc_info is not None
    assert line.exc_info[1] is bug
    assert line.__dict__["request_id"] == "req_1"
