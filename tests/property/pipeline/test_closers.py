"""Whatever is opened for an ask is closed once, on every path."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.asks import an_ask

FAILURES: tuple[type[BaseException] | None, ...] = (None, None, ValueError, RuntimeError, KeyboardInterrupt)


class Opened:
    """What the closers of one ask did."""

    def __init__(self) -> None:
        self.closed = Counter[int]()
        self.order: list[int] = []

    def closer(self, number: int, failure: type[BaseException] | None) -> Callable[[], None]:
        """Give a closer that counts, and then fails in this way."""

        def close() -> None:
            self.closed[number] += 1
            self.order.append(number)
            if failure is not None:
                raise failure

        return close


@given(st.lists(st.tuples(st.sampled_from(FAILURES), st.booleans()), max_size=12), st.integers(1, 4))
def test_closers_run_once_and_apart(opened: list[tuple[type[BaseException] | None, bool]], holders: int) -> None:
    """Every closer runs once, the last one first, whichever of the others fail and wherever a part of the ask did."""
    ask, seen = an_ask(), Opened()
    for _ in range(holders):
        ask.hold()
    expected: list[int] = []
    open_now: list[int] = []
    fails = False
    for number, (failure, part_fails) in enumerate(opened):
        mark = ask.opened()
        ask.on_end(seen.closer(number, failure))
        interrupts = failure is KeyboardInterrupt
        if part_fails:
            expected.append(number)
            if interrupts:
                with pytest.raises(KeyboardInterrupt):
                    ask.close_since(mark)
            else:
                ask.close_since(mark)
        else:
            open_now.append(number)
            fails = fails or interrupts
    expected += reversed(open_now)
    for _ in range(holders - 1):
        ask.leave()
    assert not ask.ended
    if fails:
        with pytest.raises(KeyboardInterrupt):
            ask.leave()
    else:
        ask.leave()
    ask.end()
    assert seen.order == expected
    assert set(seen.closed.values()) <= {1}


def test_what_is_opened_behind_the_end_is_closed_at_once() -> None:
    """A layer that comes too late leaves nothing open."""
    ask, seen = an_ask(), Opened()
    ask.hold()
    ask.leave()
    ask.on_end(seen.closer(1, ValueError))
    assert seen.order == [1]
    with pytest.raises(RuntimeError):
        ask.hold()


def test_a_closer_may_open_something() -> None:
    """What is opened while others are closed is closed as well."""
    ask, seen = an_ask(), Opened()
    ask.hold()
    ask.on_end(lambda: ask.on_end(seen.closer(2, None)))
    ask.leave()
    assert seen.order == [2]
