"""Which failures are tried again."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_evaluation.runs.retries import LONGEST_WAIT_SECONDS, MOST_TRIES, Failure, decide_wait, refusal


def test_only_what_waiting_may_cure_is_tried_again() -> None:
    """429 and 503, unless the server says that waiting is no use, and broken connections; nothing else."""
    assert refusal(429, "rate_limit_exceeded", {}).retryable
    assert refusal(503, "overloaded", {}).retryable
    assert not refusal(429, "insufficient_quota", {"x-should-retry": "false"}).retryable
    assert not any(refusal(status, "x", {}).retryable for status in (301, 400, 401, 404, 408, 500, 502, 504))
    assert decide_wait(Failure("timeout"), 1, 0.5) is None


def test_what_the_server_asks_is_waited_for() -> None:
    """Retry-After holds, in its finer form where there is one; a longer wait than a minute is an error at once."""
    assert decide_wait(refusal(429, "x", {"retry-after": "7"}), 1, 0.0) == 7
    assert decide_wait(refusal(429, "x", {"retry-after": "7", "retry-after-ms": "1500"}), 1, 0.0) == 1.5
    assert decide_wait(refusal(503, "x", {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}), 1, 1.0) == 0.5
    assert decide_wait(refusal(503, "x", {"retry-after": "3600"}), 1, 0.0) is None


@given(st.integers(1, 20), st.floats(0, 1), st.none() | st.floats(0, LONGEST_WAIT_SECONDS))
def test_waits_are_bounded(tries: int, draw: float, after: float | None) -> None:
    """No wait is much longer than a minute, and there are five tries at most."""
    wait = decide_wait(Failure("x", 503, retryable=True, after=after), tries, draw)
    assert (wait is None) is (tries >= MOST_TRIES)
    assert wait is None or (after or 0) <= wait <= LONGEST_WAIT_SECONDS * 1.1


def test_what_was_refused_was_not_paid_for() -> None:
    """A connection that never was, and a refusal with a status, took nothing; all else nobody knows."""
    assert not Failure("connection_failed", sent=False).in_doubt
    assert not refusal(400, "x", {}).in_doubt
    assert not refusal(503, "x", {}).in_doubt
    assert refusal(500, "x", {}).in_doubt
    assert Failure("connection_lost").in_doubt
    assert Failure("timeout").in_doubt


def test_what_says_nothing_of_the_case_is_asked_again_later() -> None:
    """A run that is gone on with asks again after failures of the network and the server, and not after 400s."""
    assert Failure("timeout").transient
    assert all(refusal(status, "x", {}).transient for status in (408, 429, 500, 502, 503))
    assert not any(refusal(status, "x", {}).transient for status in (400, 401, 404, 413, 422))
