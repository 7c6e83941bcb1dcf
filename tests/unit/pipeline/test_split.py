"""When the stable revision answers in place of the one that is tried, and whose fault a failure is."""

import pytest

from capstan_gateway.errors import (
    InvalidRequest,
    NotCached,
    RequestPoisoned,
    UpstreamFailed,
    UpstreamRejected,
)
from capstan_gateway.pipeline.split import may_stand_in
from capstan_gateway.pipeline.tracks import is_fault
from capstan_gateway.routing.unroutable import NoEndpoint, QueueRefused
from capstan_gateway.upstream.errors import BodyBroken, ConnectFailed, DeadlineExceeded, DeadlineKind

REJECTED = UpstreamRejected("no", status=400)
FULL = UpstreamRejected("full", status=429)
FAILED = UpstreamRejected("failed", status=500)
TOO_LONG = UpstreamRejected("too long", status=400, code="context_length_exceeded")
FILTERED = UpstreamRejected("filtered", status=400, code="content_filter")
LATE = DeadlineExceeded("e", DeadlineKind.FIRST_TOKEN)
OVER = DeadlineExceeded("e", DeadlineKind.TOTAL)
NOBODY = NoEndpoint("none", retry_after=1.0)
TURNED_AWAY = QueueRefused("full", retry_after=1.0, full=True)


@pytest.mark.parametrize(
    "error",
    [
        REJECTED, FULL, FAILED, TOO_LONG, LATE, NOBODY, TURNED_AWAY, ConnectFailed("e", "no"), BodyBroken("e", "no"),
        RequestPoisoned(), UpstreamFailed("nonsense"),
    ],
    ids=repr,
)  # fmt: skip
def test_the_stable_revision_answers_what_the_canary_does_not(error: Exception) -> None:
    """Whatever the canary says instead of an answer, unless the request was sent and must not be sent twice."""
    assert may_stand_in(error, spent=False)
    assert not may_stand_in(error, spent=True)


@pytest.mark.parametrize("error", [FILTERED, OVER, NotCached(), InvalidRequest("wrong")], ids=repr)
def test_some_ends_are_the_requests_own(error: Exception) -> None:
    """A filter's word, the end of its time, what only a cache may answer, and what the gateway itself refuses."""
    assert not may_stand_in(error, spent=False)


@pytest.mark.parametrize("error", [FULL, FAILED, LATE, OVER, NOBODY, TURNED_AWAY, RequestPoisoned()], ids=repr)
def test_what_an_engine_fails_of_is_its_fault(error: Exception) -> None:
    """No endpoint, no room, no answer in time, an error of its own."""
    assert is_fault(error)


@pytest.mark.parametrize("error", [REJECTED, TOO_LONG, FILTERED, InvalidRequest("wrong")], ids=repr)
def test_what_a_client_does_wrong_is_not(error: Exception) -> None:
    """A request that is refused says nothing of the revision."""
    assert not is_fault(error)
