"""One ask: who holds it, what it hands to the calls within it, and how it ends."""

import asyncio
import logging
from typing import Any, cast

import pytest

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.routing.port import MAX_NOTES, CallStats
from capstan_gateway.tokens.bill import Bill
from support.asks import an_ask

MODEL: Any = object()


def test_a_call_within_has_what_it_needs_and_a_holder_of_its_own() -> None:
    """The same deadline, identity and layers, what it uses on the same bill; nobody holds it, and nothing was tried."""
    runtime: Any = object()
    ask = Ask(
        an_ask().request, MODEL, runtime=runtime, started=5.0, expires_at=9.0, budget=MemoryBudget(1),
        request_id=b"r-1", trace=[(b"traceparent", b"x")], session="s", holders=3,
    )  # fmt: skip
    ask.inside, ask.may_wait, ask.answered_by = (cast(Any, "limit"),), False, MODEL
    ask.stats.attempts = 4
    child = ask.fork()
    assert (child.request, child.model, child.runtime) == (ask.request, MODEL, runtime)
    assert (child.started, child.expires_at) == (5.0, 9.0)
    assert (child.request_id, child.trace, child.session) == (b"r-1", ask.trace, "s")
    assert (child.inside, child.bill) == (ask.inside, ask.bill)
    assert (child.may_wait, child.answered_by, child.holders, child.ended) == (True, None, 0, False)
    assert (child.stats.attempts, child.task, child.route_note) == (0, None, b"")
    assert child.bill is ask.bill
    assert child.budget is ask.budget
    other = ask.request.rewritten({"model": "o"})
    settles = ask.fork(other, settles=True)
    assert (settles.request, settles.model) == (other, MODEL)
    assert settles.bill is not ask.bill
    assert settles.bill.calls == 0


def test_an_ask_begins_with_nothing() -> None:
    """Nobody holds it, nothing was tried, nobody has answered, and it may wait."""
    ask = an_ask()
    assert (ask.request_id, ask.trace, ask.session, ask.inside, ask.route_note) == (b"", (), "", (), b"")
    assert (ask.may_wait, ask.answered_by, ask.task, ask.holders, ask.ended) == (True, None, None, 0, False)


def test_a_bill_may_be_somebody_elses() -> None:
    """Whoever works for another request puts it on that one's bill."""
    bill, ask = Bill(), an_ask()
    assert (
        Ask(ask.request, MODEL, runtime=ask.runtime, started=0.0, expires_at=1.0, budget=ask.budget, bill=bill).bill
        is bill
    )


def worked(**fields: Any) -> CallStats:
    """Give what a call within has done."""
    done = {"attempts": 3, "retries": 2, "hedges": ("won",), "waited": 1.0, "first_byte": 10.0, "read": 100.0}
    stats = CallStats()
    for name, value in {**done, "failures": ["500"], **fields}.items():
        setattr(stats, name, value)
    return stats


@pytest.mark.parametrize(
    ("answers", "waited", "first_byte", "read"), [(True, 2.0, 10.0, 100.0), (False, 112.0, 7.0, 8.0)]
)
def test_what_a_call_within_did_is_the_asks(answers: bool, waited: float, first_byte: float, read: float) -> None:
    """What was tried adds up; the times of whoever answers are the ask's, those of any other were a wait."""
    ask = an_ask(MODEL)
    ask.stats = worked(attempts=1, retries=1, hedges=("lost",), failures=["x"], first_byte=7.0, read=8.0)
    child = ask.fork()
    child.stats, child.answered_by = worked(), cast(ServedModel, "member")
    ask.join(child, answers=answers)
    stats = ask.stats
    assert (stats.attempts, stats.retries, stats.hedges, stats.failures) == (4, 3, ("lost", "won"), ["x", "500"])
    assert (stats.waited, stats.first_byte, stats.read) == (waited, first_byte, read)
    assert ask.answered_by == ("member" if answers else None)


def test_what_was_sent_once_stays_sent() -> None:
    """As soon as one call within has sent what must not be sent twice, nobody else is asked."""
    ask = an_ask()
    for spent in (False, True, False):
        child = ask.fork()
        child.stats.spent = spent
        ask.join(child, answers=False)
        if not spent and not ask.stats.spent:
            continue
        assert ask.stats.spent is True


def test_no_more_failures_are_noted_than_there_may_be() -> None:
    """However many calls within have failed."""
    ask = an_ask()
    for _ in range(MAX_NOTES):
        child = ask.fork()
        child.stats = worked(failures=["a", "b", "c"])
        ask.join(child, answers=False)
    assert len(ask.stats.failures) == MAX_NOTES
    full = an_ask()
    full.stats.failures = ["x"] * (MAX_NOTES + 2)
    full.join(child, answers=False)
    assert full.stats.failures == ["x"] * (MAX_NOTES + 2)


def test_memory_is_one_share_until_the_end() -> None:
    """What it holds beside its request is given back when it ends, by whatever way."""
    budget = MemoryBudget(1000)
    ask = an_ask(budget=budget)
    share = ask.memory()
    assert ask.memory() is share
    assert share.grow(100)
    ask.hold()
    ask.leave()
    assert (budget.held, share.released) == (0, True)


def test_the_last_to_leave_ends_it() -> None:
    """Each that holds it keeps it; nobody can hold what has ended."""
    ask, closed = an_ask(), list[str]()
    ask.on_end(lambda: closed.append("first"))
    ask.on_end(lambda: closed.append("second"))
    ask.hold()
    ask.hold()
    ask.leave()
    assert (ask.ended, ask.holders, closed) == (False, 1, [])
    ask.leave()
    assert (ask.ended, ask.holders, closed) == (True, 0, ["second", "first"])
    with pytest.raises(RuntimeError, match=r"^the ask has ended$"):
        ask.hold()
    ask.on_end(lambda: closed.append("late"))
    assert closed == ["second", "first", "late"]
    ask.end()
    assert closed == ["second", "first", "late"]


async def test_who_works_on_it_is_stopped_and_ends_it() -> None:
    """The last to leave stops the task; the ask ends when that has."""
    ask = an_ask()
    ask.task = asyncio.create_task(asyncio.sleep(3600))
    ask.hold()
    ask.leave()
    with pytest.raises(asyncio.CancelledError):
        await ask.task
    assert not ask.ended
    ask.task = None
    ask.holders = 1
    ask.leave()
    assert ask.ended


def test_what_was_opened_since_a_mark_is_closed_alone() -> None:
    """In the order from the last to the first; a mark with nothing behind it closes nothing."""
    ask, closed = an_ask(), list[int]()
    assert ask.opened() == 0
    ask.close_since(0)
    for number in range(4):
        ask.on_end(lambda number=number: closed.append(number))  # type: ignore[misc]
    assert ask.opened() == 4
    ask.close_since(4)
    assert closed == []
    ask.close_since(2)
    assert closed == [3, 2]
    ask.close_since(2)
    ask.end()
    assert closed == [3, 2, 1, 0]


def test_a_closer_that_fails_keeps_none_from_being_called(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with the request, and what interrupts the process is raised behind the others, the first of them."""
    ask, closed = an_ask(), list[str]()
    ask.request_id = b"r-1"

    def closes(name: str, error: BaseException | None = None) -> None:
        closed.append(name)
        if error is not None:
            raise error

    ask.on_end(lambda: closes("a"))
    ask.on_end(lambda: closes("b", KeyboardInterrupt("second")))
    ask.on_end(lambda: closes("c", ValueError("my-secret")))
    ask.on_end(lambda: closes("d", KeyboardInterrupt("first")))
    with caplog.at_level(logging.ERROR), pytest.raises(KeyboardInterrupt, match="first"):
        ask.end()
    assert closed == ["d", "c", "b", "a"]
    assert ask.ended
    ask.on_end(lambda: closes("late", ValueError("my-secret")))
    assert closed[-1] == "late"
    line, _ = caplog.records
    assert (line.request_id, line.reason) == ("r-1", "ValueError")  # type: ignore[attr-defined]


class Images:
    """What was fetched, as far as an ask knows of it."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        """Let go of it."""
        self.closed += 1


def test_images_are_fetched_for_the_whole_ask() -> None:
    """Calls within an ask share what was fetched, whichever part fails; it is let go of at the end, once."""
    begun: list[Images] = []

    def begin() -> Any:
        begun.append(Images())
        return begun[-1]

    ask = an_ask()
    ask.hold()
    child = ask.fork()
    child.hold()
    grandchild = child.fork()
    mark = ask.opened()
    images = grandchild.images(begin)
    assert [one.images(begin) for one in (ask, child, grandchild)] == [images] * 3
    ask.close_since(mark)
    child.leave()
    assert begun[0].closed == 0
    other = ask.fork(settles=True)
    assert other.images(begin) is begun[1], "who settles for itself may outlive the ask that began it"
    ask.leave()
    assert ([one.closed for one in begun], ask.ended) == ([1, 0], True)
    with pytest.raises(RuntimeError):
        grandchild.images(begin)
    other.end()
    assert begun[1].closed == 1
