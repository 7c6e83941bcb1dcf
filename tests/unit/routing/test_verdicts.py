"""What follows from an error: for its endpoint, for another attempt, for another model."""

import pytest

from capstan_gateway.errors import (
    AnswerNotChecked,
    GatewayError,
    GuardBlocked,
    GuardUnavailable,
    InvalidRequest,
    ModelNotReady,
    UpstreamFailed,
    UpstreamRejected,
)
from capstan_gateway.routing.unroutable import KeyMissing, NoCredential, NoEndpoint, TooManyWaiting
from capstan_gateway.routing.verdicts import (
    Again,
    Elsewhere,
    another_attempt,
    another_model,
    another_reading,
    blames_endpoint,
    cannot_take,
    is_nonsense,
    status_blames_endpoint,
    status_is_retried,
)
from capstan_gateway.upstream.errors import (
    BodyBroken,
    BodyTooLarge,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineKind,
    ProtocolError,
    TooManyConnections,
    UpstreamError,
)

ANYWHERE, NOWHERE, LARGER = Elsewhere.ANYWHERE, Elsewhere.NOWHERE, Elsewhere.LARGER_WINDOW


def late(kind: DeadlineKind) -> DeadlineExceeded:
    """A deadline that has passed."""
    return DeadlineExceeded("e", kind)


@pytest.mark.parametrize(
    ("error", "blamed", "again", "elsewhere"),
    [
        (ConnectFailed("e", ""), True, Again.FREELY, ANYWHERE),
        (late(DeadlineKind.CONNECT), True, Again.FREELY, ANYWHERE),
        (TooManyConnections("e", ""), False, Again.FREELY, ANYWHERE),
        (KeyMissing("e", ""), False, Again.FREELY, ANYWHERE),
        (ConnectionLost("e", ""), True, Again.BUDGETED, ANYWHERE),
        (ProtocolError("e", ""), True, Again.BUDGETED, ANYWHERE),
        (BodyBroken("e", ""), True, Again.BUDGETED, ANYWHERE),
        (late(DeadlineKind.FIRST_TOKEN), True, Again.BUDGETED, ANYWHERE),
        (late(DeadlineKind.IDLE), True, Again.BUDGETED, ANYWHERE),
        (late(DeadlineKind.TOTAL), False, Again.NEVER, NOWHERE),
        (BodyTooLarge("e", ""), False, Again.NEVER, ANYWHERE),
    ],
    ids=lambda value: repr(value),
)
def test_each_error_of_an_upstream(error: UpstreamError, blamed: bool, again: Again, elsewhere: Elsewhere) -> None:
    """The table in the module's head, row by row."""
    assert blames_endpoint(error) is blamed
    assert another_attempt(error) is again
    assert another_model(error) is elsewhere


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("keyed", [False, True])
def test_what_another_endpoint_may_answer_better(status: int, keyed: bool) -> None:
    """Full, broken or overloaded: retried, but never when the request must not be sent twice."""
    assert status_is_retried(status, keyed=keyed)
    assert not status_is_retried(status, keyed=keyed, repeatable=False)


@pytest.mark.parametrize("status", [200, 400, 404, 408, 413, 422, 501, 505])
@pytest.mark.parametrize("keyed", [False, True])
def test_what_is_about_the_request(status: int, keyed: bool) -> None:
    """It is given back as it is."""
    assert not status_is_retried(status, keyed=keyed)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_its_endpoints_failure(status: int) -> None:
    """Only where each endpoint has a key of its own: elsewhere it is about the request."""
    assert status_blames_endpoint(status, keyed=True)
    assert not status_blames_endpoint(status, keyed=False)
    assert status_is_retried(status, keyed=True)
    assert not status_is_retried(status, keyed=False)


@pytest.mark.parametrize(
    ("error", "elsewhere"),
    [
        (NoEndpoint("", retry_after=1), ANYWHERE),
        (NoCredential("", retry_after=1), ANYWHERE),
        (TooManyWaiting("", retry_after=1), ANYWHERE),
        (ModelNotReady(""), ANYWHERE),
        (UpstreamFailed(""), ANYWHERE),
        (UpstreamRejected("", status=500), ANYWHERE),
        (UpstreamRejected("", status=429), ANYWHERE),
        (UpstreamRejected("", status=408), ANYWHERE),
        (UpstreamRejected("", status=400), NOWHERE),
        (UpstreamRejected("", status=401), NOWHERE),
        (UpstreamRejected("", status=499), NOWHERE),
        (UpstreamRejected("", status=400, code="content_filter"), NOWHERE),
        (UpstreamRejected("", status=400, code="context_length_exceeded"), LARGER),
        (InvalidRequest(""), NOWHERE),
        (GuardBlocked(""), NOWHERE),
        (GuardUnavailable(""), NOWHERE),
        (AnswerNotChecked(""), NOWHERE),
    ],
    ids=lambda value: repr(value),
)
def test_which_model_may_answer_instead(error: Exception, elsewhere: Elsewhere) -> None:
    """Failures go on; the request's own faults and a guard's blocks do not; what is too long goes to larger windows."""
    assert another_model(error) is elsewhere
    assert another_model(error, spent=True) is NOWHERE, "sent, and not to be sent twice"


def test_a_request_that_is_not_repeatable_is_sent_once() -> None:
    """What never left may go elsewhere; what may have been seen may not, whatever became of it."""
    assert another_attempt(ConnectFailed("e", ""), repeatable=False) is Again.FREELY
    for error in (ConnectionLost("e", ""), BodyBroken("e", ""), late(DeadlineKind.FIRST_TOKEN)):
        assert another_attempt(error, repeatable=False) is Again.NEVER
        assert another_reading(200, error, repeatable=False) is Again.NEVER
    assert another_reading(200, UpstreamFailed("nonsense"), repeatable=False) is Again.NEVER


@pytest.mark.parametrize(
    ("status", "error", "again"),
    [
        (200, UpstreamFailed("nonsense"), Again.BUDGETED),
        (200, UpstreamRejected("in the stream", status=500), Again.BUDGETED),
        (399, UpstreamFailed("a redirection"), Again.BUDGETED),
        (200, UpstreamRejected("in the stream", status=400), Again.NEVER),
        (400, UpstreamRejected("", status=500), Again.NEVER),
        (500, UpstreamRejected("", status=500), Again.NEVER),
        (200, BodyBroken("e", ""), Again.BUDGETED),
        (200, late(DeadlineKind.IDLE), Again.BUDGETED),
        (200, late(DeadlineKind.TOTAL), Again.NEVER),
        (200, ConnectFailed("e", ""), Again.NEVER),
        (200, BodyTooLarge("e", ""), Again.NEVER),
        (200, RuntimeError("a bug"), Again.NEVER),
        (200, KeyboardInterrupt(), Again.NEVER),
    ],
    ids=lambda value: repr(value),
)
def test_an_answer_that_turned_out_to_be_none(status: int, error: BaseException, again: Again) -> None:
    """What began well and is no answer is asked for once more; a refusal, a bug and the end of time are not."""
    assert another_reading(status, error) is again
    assert is_nonsense(status, error) is (isinstance(error, GatewayError) and again is Again.BUDGETED)


@pytest.mark.parametrize(
    ("error", "alone", "routed"),
    [
        (UpstreamRejected("", status=400), True, True),
        (UpstreamRejected("", status=404), True, True),
        (UpstreamRejected("", status=413), True, True),
        (UpstreamRejected("", status=422), True, True),
        (InvalidRequest("", status=400), True, True),
        (UpstreamRejected("", status=401), False, False),
        (UpstreamRejected("", status=429), False, False),
        (UpstreamRejected("", status=400, code="content_filter"), False, False),
        (UpstreamRejected("", status=400, code="context_length_exceeded"), True, False),
        (GatewayError("", status=400), False, False),
        (ConnectionLost("e", ""), False, False),
    ],
    ids=lambda value: repr(value),
)
def test_a_model_that_cannot_take_a_request_is_passed_over(error: Exception, alone: bool, routed: bool) -> None:
    """Another model may understand it; a block is none of that, and a router has its own rule for long prompts."""
    assert cannot_take(error, routed=False) is alone
    assert cannot_take(error, routed=True) is routed
