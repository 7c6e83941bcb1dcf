"""What bench/faults.py counts as lost, duplicated and late."""

import pytest

from support.fault_load import GONE_SECONDS, LATE_SECONDS, Asked, End, judge
from support.fault_world import Times


def asked(end: End, *, once: bool = False, done_at: float = 101.0) -> Asked:
    """Give a request that was sent at 100."""
    return Asked("q", "queued", True, once, 100.0, "text", end=end, done_at=done_at, killed_at=done_at)


@pytest.mark.parametrize(
    ("times", "duplicated", "again", "in_vain"),
    [
        (Times([100.1], [100.9]), 0, 0, 0),
        (Times([100.1, 100.2], [100.8, 100.9]), 0, 1, 0),
        (Times([100.1, 101.2], [100.9], [101.3]), 0, 0, 1),
        (Times([100.1, 101.2], [100.9, 101.3]), 1, 1, 1),
    ],
)
def test_work_behind_an_answer_is_a_duplicate(times: Times, duplicated: int, again: int, in_vain: int) -> None:
    """What an engine begins when it was answered counts if it comes to its end; two attempts before that do not."""
    found = judge([asked(End.ANSWERED)], {"q": times})
    assert (len(found.duplicated), found.again, found.in_vain) == (duplicated, again, in_vain)


def test_what_must_not_be_sent_twice_is_begun_once() -> None:
    """Whatever becomes of it."""
    times = {"q": Times([100.1, 100.2])}
    assert [len(judge([asked(End.ERROR, once=once)], times).duplicated) for once in (False, True)] == [0, 1]


def test_whoever_was_told_nothing_is_lost() -> None:
    """One without an end counts as lost, one with a late end as late."""
    late = asked(End.ANSWERED, done_at=100.0 + LATE_SECONDS + 1)
    found = judge([asked(End.LOST), late], {})
    assert (len(found.lost), found.late, found.asked) == (1, ["q"], 2)


@pytest.mark.parametrize("after", [-1.0, 1.0])
def test_nobody_works_for_a_gateway_that_is_long_dead(after: float) -> None:
    """Until it counts as gone engines may work on for it, and no longer."""
    found = judge([asked(End.CUT)], {"q": Times([100.1], [101.0 + GONE_SECONDS + after])})
    assert len(found.ran_on) == (after > 0)
