"""The account of what filters hold back: its bytes in the process' budget, and its clock, which the test holds."""

import pytest

from capstan_gateway.errors import GatewayError, Overloaded
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.hold_back import HELD_FACTOR, HoldBack
from capstan_gateway.streaming.filters import HeldTooMuch, HoldLimits

LIMITS = HoldLimits(bytes=1000, seconds=30, silence_seconds=4)


class Clock:
    """Tells the time that the test says."""

    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        """Give it."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of the account."""
    return Clock()


@pytest.fixture
def budget() -> MemoryBudget:
    """What the whole process may hold."""
    return MemoryBudget(1 << 20)


@pytest.fixture
def account(clock: Clock, budget: MemoryBudget) -> HoldBack:
    """One stream's account."""
    return HoldBack(budget.share(), LIMITS, clock)


def test_what_is_held_takes_its_memory_from_the_budget(account: HoldBack, budget: MemoryBudget) -> None:
    """A chunk takes several times its size on the wire; what goes on gives that back, and so does the end."""
    assert (account.held, budget.held) == (0, 0)
    account.reckon(100)
    assert (account.held, budget.held) == (100, 100 * HELD_FACTOR)
    account.reckon(700)
    assert (account.held, budget.held) == (700, 700 * HELD_FACTOR)
    account.reckon(30)
    assert (account.held, budget.held) == (30, 30 * HELD_FACTOR)
    account.close()
    assert (account.held, budget.held) == (0, 0)


def test_as_much_may_be_held_as_the_limit_says_and_no_byte_more(account: HoldBack, budget: MemoryBudget) -> None:
    """One byte more is refused, and nothing is taken for it."""
    account.reckon(LIMITS.bytes)
    with pytest.raises(HeldTooMuch) as refused:
        account.reckon(LIMITS.bytes + 1)
    assert str(refused.value) == "the answer could not be checked: more of it would have to be held back than may be"
    assert (account.held, budget.held) == (LIMITS.bytes, LIMITS.bytes * HELD_FACTOR)


def test_without_room_in_the_process_nothing_more_is_held(clock: Clock) -> None:
    """Where the process is full it is overloaded, and the account stays what it was."""
    budget = MemoryBudget(256 * HELD_FACTOR * 10)
    account = HoldBack(budget.share(), LIMITS, clock)
    account.reckon(2)
    while budget.held < budget.limit:
        assert budget.share().grow(min(30, budget.limit - budget.held))
    with pytest.raises(Overloaded):
        account.reckon(3)
    assert account.held == 2


def test_time_runs_while_something_is_held(account: HoldBack, clock: Clock) -> None:
    """It begins with the chunk that is held first: neither what was waited for it counts, nor do others behind it."""
    clock.now += 100
    account.something_came()
    account.reckon(10)
    assert account.seconds_left == LIMITS.seconds
    clock.now += 12
    account.something_came()
    account.reckon(20)
    assert account.seconds_left == LIMITS.seconds - 12
    account.reckon(0)
    account.something_came()
    assert account.seconds_left == LIMITS.seconds


def test_what_goes_on_gives_the_rest_its_time_anew(account: HoldBack, clock: Clock) -> None:
    """The limit is of time without anything going on to the client."""
    account.reckon(10)
    clock.now += 29
    account.something_went_on()
    assert account.seconds_left == LIMITS.seconds
    clock.now += 29
    account.check_time()


def test_held_for_as_long_as_it_may_is_too_long(account: HoldBack, clock: Clock) -> None:
    """At the limit it is refused; less is allowed, and what is not held may take its time."""
    account.reckon(10)
    clock.now += 29.5
    account.check_time()
    clock.now += 0.5
    with pytest.raises(HeldTooMuch) as refused:
        account.check_time()
    assert str(refused.value) == "the answer could not be checked in time"
    account.reckon(0)
    account.check_time()


def test_no_time_is_left_behind_the_limit(account: HoldBack, clock: Clock) -> None:
    """What is over is over: the time left is never below zero, which no wait would take."""
    account.reckon(10)
    clock.now += 500
    assert (account.seconds_left, account.patience) == (0, 0)
    account.reckon(0)
    assert account.patience is None, "nothing is held: the engine may think for as long as its deadlines allow"


def test_the_client_may_read_slowly(account: HoldBack, clock: Clock) -> None:
    """Its time is not the filters': from leaving to coming back none of it counts, and what was before does."""
    account.reckon(10)
    clock.now += 5
    account.leave()
    clock.now += 100
    account.come_back()
    assert account.seconds_left == LIMITS.seconds - 5
    clock.now += 7
    account.leave()
    clock.now += 3
    account.come_back()
    assert account.seconds_left == LIMITS.seconds - 12


def test_a_silence_is_as_long_as_is_said_and_never_beyond_the_limit(account: HoldBack, clock: Clock) -> None:
    """The filters are asked again and again, and for the last time when what they hold is held for too long."""
    account.reckon(10)
    assert account.patience == LIMITS.silence_seconds
    clock.now += 28
    assert account.patience == 2


def test_what_is_refused_is_a_failure_of_the_gateway(account: HoldBack) -> None:
    """The client is told 502, by a code of its own."""
    error = account.too_long()
    assert isinstance(error, GatewayError)
    assert (error.status, error.code) == (502, "answer_not_checked")
