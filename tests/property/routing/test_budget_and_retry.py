"""What may be repeated, and how often."""

import time
from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.routing.budget import BudgetSettings, RetryBudget
from capstan_gateway.routing.retry_after import retry_after
from capstan_gateway.routing.verdicts import Again, another_attempt, same_endpoint_may_do
from capstan_gateway.upstream.errors import (
    BodyBroken,
    BodyTooLarge,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineKind,
    ProtocolError,
)


@given(
    steps=st.lists(st.tuples(st.sampled_from(["request", "retry"]), st.floats(0, 3)), max_size=200),
    share=st.floats(0, 1),
    floor=st.floats(0, 5),
    burst=st.floats(1, 20),
)
def test_the_budget_is_never_exceeded(steps: list[tuple[str, float]], share: float, floor: float, burst: float) -> None:
    """Whatever the order of requests and retries: retries <= burst + share * requests + floor * seconds."""
    budget = RetryBudget(BudgetSettings(share=share, floor_per_second=floor, burst=burst))
    now, requests, retries = 50.0, 0, 0
    for what, passing in steps:
        now += passing
        if what == "request":
            requests += 1
            budget.deposit()
        else:
            retries += budget.spend(now)
        assert retries <= burst + share * requests + floor * (now - 50.0) + 1e-6
        assert budget.tokens <= burst


def test_a_spent_budget_fills_again_with_traffic_and_with_time() -> None:
    """Five requests or a tenth of a second are one retry, with the defaults."""
    budget = RetryBudget()
    while budget.spend(0.0):
        pass
    assert not budget.spend(0.05)
    for _ in range(5):
        budget.deposit()
    assert budget.spend(0.05)
    assert budget.spend(0.2)


def test_a_clock_that_goes_backwards_fills_nothing() -> None:
    """Time that was counted once is not counted again."""
    budget = RetryBudget(BudgetSettings(share=0, floor_per_second=1, burst=1))
    assert budget.spend(100)
    assert not budget.spend(50)
    assert not budget.spend(100.5)
    assert budget.spend(101)


def test_errors_say_whether_the_request_may_be_repeated() -> None:
    """Unsent: freely. Sent: with the budget. Not when time is up or our own limit was hit."""
    verdicts = {
        ConnectFailed("e", "refused"): Again.FREELY,
        DeadlineExceeded("e", DeadlineKind.CONNECT): Again.FREELY,
        ConnectionLost("e", "reset"): Again.BUDGETED,
        ProtocolError("e", "junk"): Again.BUDGETED,
        BodyBroken("e", "cut"): Again.BUDGETED,
        DeadlineExceeded("e", DeadlineKind.FIRST_TOKEN): Again.BUDGETED,
        DeadlineExceeded("e", DeadlineKind.IDLE): Again.BUDGETED,
        DeadlineExceeded("e", DeadlineKind.TOTAL): Again.NEVER,
        BodyTooLarge("e", "large"): Again.NEVER,
    }
    assert {error: another_attempt(error) for error in verdicts} == verdicts
    assert [type(error).__name__ for error in verdicts if same_endpoint_may_do(error)] == [
        "ConnectFailed",
        "DeadlineExceeded",
        "ConnectionLost",
    ]


@given(value=st.binary(max_size=80))
def test_any_retry_after_is_a_time_or_nothing(value: bytes) -> None:
    """Nothing that an upstream sends raises, and what comes out is a finite, non-negative number of seconds."""
    for name in (b"retry-after", b"retry-after-ms"):
        seconds = retry_after([(name, value)], time.time)
        assert seconds is None or 0 <= seconds < float("inf")


def test_every_form_of_retry_after_is_understood() -> None:
    """Seconds, milliseconds (which go first), and an HTTP date."""
    assert retry_after([(b"retry-after", b"2")], time.time) == 2
    assert retry_after([(b"retry-after", b"2"), (b"retry-after-ms", b"1500")], time.time) == 1.5
    date = formatdate(1_000_030, usegmt=True).encode()
    assert retry_after([(b"retry-after", date)], lambda: 1_000_000.0) == 30
    assert retry_after([(b"retry-after", date)], lambda: 2_000_000.0) == 0
    assert retry_after([], time.time) is None
