"""One request to one endpoint, and what its end says of the endpoint."""

import math
import time

import pytest

from capstan_gateway.routing.attempt import Attempt, AttemptOutcome
from capstan_gateway.routing.breaker import BreakerSettings, BreakerState
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.routing.unroutable import KeyMissing
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
from capstan_gateway.upstream.port import Endpoint


def endpoint_state() -> EndpointState:
    """An endpoint that is out after its second failure."""
    return EndpointState(Endpoint("e", "127.0.0.1", 1), BreakerSettings(threshold=2, successes_to_close=1))


def failures(state: EndpointState) -> int:
    """How many failures in a row its breaker has counted."""
    return state.breaker._failures


BLAMED = [
    ConnectFailed("e", "refused"),
    DeadlineExceeded("e", DeadlineKind.CONNECT),
    ConnectionLost("e", "reset"),
    ProtocolError("e", "junk"),
    BodyBroken("e", "cut"),
    DeadlineExceeded("e", DeadlineKind.FIRST_TOKEN),
    DeadlineExceeded("e", DeadlineKind.IDLE),
]
NOT_BLAMED = [
    TooManyConnections("e", "full"),
    KeyMissing("e", "no key"),
    BodyTooLarge("e", "large"),
    DeadlineExceeded("e", DeadlineKind.TOTAL),
]


@pytest.mark.parametrize("error", BLAMED, ids=lambda error: str(error))
def test_a_failure_is_the_endpoints(error: UpstreamError) -> None:
    """It is counted once, however often it is told, and has a word."""
    state = endpoint_state()
    attempt = Attempt(state, 0.0)
    attempt.fail(error, 1.0)
    attempt.fail(error, 1.0)
    attempt.blame("again", 1.0)
    attempt.succeed(1.0)
    assert failures(state) == 1
    assert state.last_error not in (None, "again")
    assert attempt.outcome is AttemptOutcome.FAILED
    assert attempt.sent == error.sent


@pytest.mark.parametrize("error", NOT_BLAMED, ids=lambda error: str(error))
def test_our_own_limits_are_nobodys_failure(error: UpstreamError) -> None:
    """They count neither as failure nor as success, and say nothing about how to probe."""
    state = endpoint_state()
    Attempt(state, 0.0).blame("before", 0.0)
    attempt = Attempt(state, 0.0)
    attempt.fail(error, 1.0)
    attempt.succeed(1.0)
    assert failures(state) == 1
    assert state.last_error == "before"
    assert attempt.outcome is AttemptOutcome.LEFT


def test_a_success_starts_the_count_anew() -> None:
    """An answer that came to its end clears what was before it."""
    state = endpoint_state()
    Attempt(state, 0.0).blame("before", 0.0)
    attempt = Attempt(state, 0.0)
    attempt.succeed(1.0)
    attempt.blame("too late", 1.0)
    assert (failures(state), state.last_error, attempt.outcome) == (0, None, AttemptOutcome.SUCCEEDED)


def test_an_answer_that_is_left_says_nothing() -> None:
    """A client that leaves in the middle neither clears failures nor adds one."""
    state = endpoint_state()
    Attempt(state, 0.0).blame("before", 0.0)
    attempt = Attempt(state, 0.0)
    attempt.leave(1.0, silent=1.0, deadline=60.0)
    attempt.succeed(1.0)
    assert (failures(state), state.last_error, attempt.outcome) == (1, "before", AttemptOutcome.LEFT)


@pytest.mark.parametrize(
    ("silent", "deadline", "failed"),
    [(30.1, 60.0, True), (30.0, 60.0, False), (0.0, 0.0, False), (1e9, math.inf, False)],
)
def test_silence_for_more_than_half_of_the_deadline_is_a_failure(silent: float, deadline: float, failed: bool) -> None:
    """Leaving early does not hide an engine that hangs; an answer in one piece has no such deadline."""
    state = endpoint_state()
    attempt = Attempt(state, 0.0)
    attempt.leave(40.0, silent=silent, deadline=deadline)
    assert failures(state) == failed
    assert state.last_error == ("silent" if failed else None)
    assert attempt.outcome is (AttemptOutcome.FAILED if failed else AttemptOutcome.LEFT)


def test_stragglers_change_no_word() -> None:
    """What is known of an endpoint that is out decides how it is probed: requests from before change nothing of it."""
    state = endpoint_state()
    well, ill = Attempt(state, 0.0), Attempt(state, 0.0)
    for _ in range(2):
        Attempt(state, 0.0).blame("500", 0.0)
    well.succeed(0.1)
    assert state.last_error == "500", "an answer from before does not make /health its trial"
    ill.blame("ConnectFailed", 0.1)
    assert state.last_error == "500"
    assert (well.outcome, ill.outcome) == (AttemptOutcome.SUCCEEDED, AttemptOutcome.FAILED)


def test_the_word_stays_until_the_breaker_is_closed() -> None:
    """The trials that are still to come are to be of the same kind as the first one."""
    state = EndpointState(Endpoint("e", "127.0.0.1", 1), BreakerSettings(threshold=1, successes_to_close=2))
    Attempt(state, 0.0).blame("500", 0.0)
    Attempt(state, 1.0).succeed(1.0)
    assert state.last_error == "500"
    Attempt(state, 1.0).succeed(1.0)
    assert state.last_error is None
    assert state.breaker.state(1.0) is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("status", "headers", "keyed", "failed", "pause"),
    [
        (400, [], False, False, 0.0),
        (401, [], False, False, 0.0),
        (401, [], True, True, 0.0),
        (403, [], True, True, 0.0),
        (404, [], True, False, 0.0),
        (429, [], False, False, 1.0),
        (429, [(b"retry-after", b"7")], False, False, 7.0),
        (429, [(b"retry-after", b"0")], False, False, 0.0),
        (499, [], False, False, 0.0),
        (500, [(b"retry-after", b"7")], False, True, 0.0),
        (501, [], False, True, 0.0),
        (503, [], False, True, 0.0),
        (503, [(b"retry-after", b"7")], False, True, 7.0),
        (529, [(b"retry-after", b"7")], False, True, 7.0),
    ],
)
def test_what_a_status_says(
    status: int, headers: list[tuple[bytes, bytes]], keyed: bool, failed: bool, pause: float
) -> None:
    """5xx are failures, refused keys among keys too; 429, 503 and 529 may ask for a pause; the rest is an answer."""
    state = endpoint_state()
    attempt = Attempt(state, 0.0)
    attempt.status = status
    attempt.answered(headers, 0.0, time.time, keyed=keyed)
    assert failures(state) == failed
    assert state.last_error == (str(status) if failed else None)
    assert state.breaker.allows(pause)
    assert not pause or not state.breaker.allows(pause - 0.01)


def test_what_somebody_may_charge_for() -> None:
    """What was sent and not refused: also when no answer came."""
    sent, refused, unsent = (Attempt(endpoint_state(), 0.0) for _ in range(3))
    sent.sent = refused.sent = True
    refused.status = 429
    assert (sent.may_have_worked, refused.may_have_worked, unsent.may_have_worked) == (True, False, False)
    unsent.fail(ConnectFailed("e", "refused"), 0.0)
    assert not unsent.may_have_worked
    unsent.fail(ConnectionLost("e", "reset"), 0.0)
    assert unsent.may_have_worked


def test_each_attempt_speaks_for_itself() -> None:
    """A straggler that ends well while a trial is under way is not taken for it: only the trial closes the breaker."""
    settings = BreakerSettings(threshold=1, successes_to_close=1, slow_start_seconds=10)
    state = EndpointState(Endpoint("e", "127.0.0.1", 1), settings)
    straggler, failed = Attempt(state, 0.0), Attempt(state, 0.0)
    failed.blame("500", 0.0)
    trial = Attempt(state, 1.0)
    straggler.succeed(1.1)
    assert state.breaker.state(1.1) is BreakerState.HALF_OPEN
    trial.succeed(2.0)
    assert state.breaker.state(2.0) is BreakerState.CLOSED
    assert state.breaker.share(7.0) == 0.5, "counted from when it closed"


def test_silence_may_open_a_breaker() -> None:
    """From when it was noticed, as any failure."""
    state = EndpointState(Endpoint("e", "127.0.0.1", 1), BreakerSettings(threshold=1, open_seconds=1))
    Attempt(state, 0.0).leave(40.0, silent=31.0, deadline=60.0)
    assert not state.breaker.allows(40.9)
    assert state.breaker.allows(41.0)
    state = EndpointState(Endpoint("e", "127.0.0.1", 1), BreakerSettings(threshold=1, open_seconds=1))
    Attempt(state, 0.0).fail(ConnectionLost("e", "reset"), 40.0)
    assert not state.breaker.allows(40.9)
    assert state.breaker.state(40.9) is BreakerState.OPEN
    assert state.breaker.allows(41.0)
    assert state.breaker.state(41.0) is BreakerState.HALF_OPEN


def test_an_attempt_that_has_just_begun() -> None:
    """It is no hedge, has no answer, and holds a slot that is given back once."""
    state = endpoint_state()
    attempt = Attempt(state, 7.0)
    assert (attempt.hedge, attempt.sent, attempt.status, attempt.began_at) == (False, False, 0, 7.0)
    assert attempt.outcome is AttemptOutcome.RUNNING
    assert state.in_flight == 1
    for _ in range(3):
        attempt.release()
        assert state.in_flight == 0
    attempt.succeed(8.0)
    assert state.in_flight == 0


def test_a_pause_may_end_at_a_date() -> None:
    """Counted by the clock on the wall, and kept by that of the loop."""
    state = endpoint_state()
    attempt = Attempt(state, 0.0)
    attempt.status = 503
    attempt.answered([(b"retry-after", b"Mon, 12 Jan 1970 13:47:10 GMT")], 5.0, lambda: 1_000_000.0, keyed=False)
    assert not state.breaker.allows(34.9)
    assert state.breaker.allows(35.0)
