"""The queue's rules at their edges, on a clock of numbers."""

import pytest

from capstan_operator.backoff import Backoff
from capstan_operator.loop.workqueue import DONE, Outcome, Pace, QueueCore

PACE = Pace(lead=0.0625, quiet=0.25, most=2.0)
STEADY = Backoff(first=4.0, factor=2.0, most=64.0)
"""Times here are sums of powers of two, so that an edge is met exactly."""


def make_core() -> QueueCore[str]:
    """Give an empty queue without jitter."""
    return QueueCore(PACE, rng=lambda: 1.0, backoff=STEADY)


def run(core: QueueCore[str], key: str, now: float, outcome: Outcome = DONE) -> None:
    """Wake a key, take it and end it."""
    core.wake(key, now)
    assert core.take(now + PACE.most) == [key]
    core.done(key, outcome, now + PACE.most)


def test_calm_begins_when_a_key_has_not_been_started_for_the_most() -> None:
    """From exactly then on a change is acted on after the lead again; a moment before it waits for quiet."""
    for since, ready in ((2.0, PACE.lead), (1.9375, PACE.quiet)):
        core = make_core()
        run(core, "a", 10.0)
        started = 10.0 + PACE.most
        assert core.wake("a", started + since) == started + since + ready


def test_calm_counts_from_the_start_of_the_last_run() -> None:
    """However long ago the clock began."""
    core = make_core()
    run(core, "a", 1000.0)
    assert core.wake("a", 1003.0) == 1003.0 + PACE.quiet


def test_a_key_is_remembered_as_busy_while_others_are_taken() -> None:
    """What others do makes nobody calm: its start is kept until it is long enough ago."""
    core = make_core()
    core.wake("a", 10.0)
    core.take(10.5)
    core.done("a", DONE, 10.5)
    core.wake("b", 11.0)
    core.take(11.5)
    assert core.wake("a", 11.75) == 11.75 + PACE.quiet


def test_a_key_that_runs_long_is_not_calm_when_it_is_woken() -> None:
    """It is busy: its next run waits for quiet, however long ago this one began."""
    core = make_core()
    core.wake("a", 0.0)
    core.take(1.0)
    core.wake("b", 90.0)
    core.take(91.0)
    assert core.wake("a", 100.0) == 100.0 + PACE.quiet


def test_a_wake_up_during_a_run_is_not_ready_before_it_ends() -> None:
    """What next becomes ready is told without the keys that run."""
    core = make_core()
    core.wake("a", 0.0)
    core.take(1.0)
    core.wake("a", 2.0)
    assert core.next_ready() is None
    assert core.depth == 1
    core.done("a", DONE, 3.0)
    assert core.next_ready() == 2.0 + PACE.quiet


def test_a_re_run_is_no_reason_to_wake_while_its_key_runs() -> None:
    """A key that was due again and is running is not due."""
    core = make_core()
    run(core, "a", 0.0, Outcome(after=30.0))
    core.wake("a", 10.0)
    core.take(13.0)
    assert core.next_ready() is None


def test_wake_ups_count_from_the_longest_waiting() -> None:
    """Who was woken first comes first, whatever the keys are called."""
    core = make_core()
    core.wake("z", 0.0)
    core.wake("m", 0.5)
    core.wake("a", 1.0)
    assert core.take(10.0, 2) == ["z", "m"]
    assert core.take(10.0, 2) == ["a"]


def test_keys_need_no_order_of_their_own() -> None:
    """Those that were woken at the same moment may be of kinds that cannot be compared."""
    core: QueueCore[object] = QueueCore(PACE, rng=lambda: 1.0)
    core.wake("text", 0.0)
    core.wake(7, 0.0)
    assert core.take(10.0) == ["text", 7]


def test_a_key_that_is_not_admitted_stays_and_takes_no_place() -> None:
    """It waits as before, and the batch goes on with the next group."""
    core: QueueCore[str] = QueueCore(PACE, rng=lambda: 1.0, group_of=str)
    for number, key in enumerate("abc"):
        core.wake(key, float(number))
    assert core.take(10.0, 2, admits=lambda key: key != "a") == ["b", "c"]
    assert core.take(10.0) == ["a"]


def test_a_key_that_is_not_admitted_speaks_for_its_group() -> None:
    """A thousand keys of a group that has no room are not asked about one by one."""
    core: QueueCore[str] = QueueCore(PACE, rng=lambda: 1.0, group_of=lambda key: key[0])
    for number in range(1000):
        core.wake(f"a{number}", 0.0)
    core.wake("b", 1.0)
    asked: list[str] = []

    def admits(key: str) -> bool:
        asked.append(key)
        return key == "b"

    assert core.take(10.0, admits=admits) == ["b"]
    assert core.take(10.0, admits=admits) == []
    assert asked == ["a0", "b", "a0"]


def test_what_is_void_in_the_heaps_does_not_pile_up() -> None:
    """A key that is woken again and again while its re-run is far away costs no memory."""
    core = make_core()
    for round_ in range(2000):
        run(core, "a", round_ * 4.0, Outcome(after=1e6))
    assert len(core._timed) < 100
    assert len(core._starts) < 5
    assert (core._ready, len(core._valid)) == ({}, 1)


def test_a_key_that_is_put_back_has_lost_nothing() -> None:
    """It is ready at once, before those that were woken after it, and a wake-up of its run that was none is merged."""
    core = make_core()
    core.wake("a", 0.0)
    core.wake("b", 1.0)
    core.take(5.0, 1)
    core.wake("a", 6.0)
    core.put_back("a")
    assert (core.depth, core.running) == (2, 0)
    assert core.next_ready() == 0.0
    assert core.take(6.0) == ["a", "b"]
    core.done("a", DONE, 7.0)
    assert core.is_idle("a")


def test_a_key_that_is_put_back_merges_wake_ups_like_any_other() -> None:
    """One that comes now is waited for until it is quiet."""
    core = make_core()
    core.wake("a", 10.0)
    core.take(10.5)
    core.put_back("a")
    assert core.wake("a", 10.5) == 10.5 + PACE.quiet


def test_keys_that_are_not_admitted_are_not_waited_for() -> None:
    """Neither those that were woken nor those that are due again say when the runner has to look."""
    core = make_core()
    run(core, "later", 0.0, Outcome(after=30.0))
    run(core, "later still", 0.0, Outcome(after=60.0))
    core.wake("woken", 10.0)
    assert core.take(20.0, admits=lambda _: False) == []
    assert core.next_to_come() == 32.0
    assert core.take(50.0, admits=lambda _: False) == []
    assert core.next_to_come() == 62.0
    assert core.take(70.0, admits=lambda _: False) == []
    assert core.next_to_come() is None
    assert core.next_ready() == 10.0625
    assert core.take(70.0) == ["woken", "later", "later still"]


def test_a_re_run_waits_for_the_lead_at_least() -> None:
    """A key that asks to run again at once gives the wake-ups of its own writes time to come."""
    core = make_core()
    run(core, "a", 0.0, Outcome(after=0.0))
    assert core.next_ready() == PACE.most + PACE.lead


def test_the_longer_wait_of_both_counts_after_a_failure() -> None:
    """The key's own back-off, or what the other side asks for."""
    for after, wait in ((None, 4.0), (1.0, 4.0), (9.0, 9.0)):
        core = make_core()
        run(core, "a", 0.0, Outcome(failed=True, after=after))
        assert core.next_ready() == PACE.most + wait


def test_a_success_forgets_a_re_run_that_was_due_earlier() -> None:
    """The last run says when the next one is due: a wake-up in between replaces what was planned."""
    core = make_core()
    run(core, "a", 0.0, Outcome(after=30.0))
    run(core, "a", 10.0)
    assert core.next_ready() is None


def test_a_run_that_nobody_knows_ends_without_harm() -> None:
    """Ending a key twice is an end."""
    core = make_core()
    run(core, "a", 0.0)
    core.done("a", DONE, 9.0)
    assert core.is_idle("a")


@pytest.mark.parametrize("count", [1, 3])
def test_keys_that_fail_are_counted_once_each(count: int) -> None:
    """However often one has failed in a row."""
    core = make_core()
    now = 0.0
    for _ in range(count):
        run(core, "a", now, Outcome(failed=True))
        now += 100.0
    assert core.failing == 1


def test_a_key_is_ready_at_the_very_moment_that_was_told() -> None:
    """Not a moment before: whoever waits until then finds it, and need not look again."""
    core = make_core()
    ready = core.wake("a", 10.0)
    assert core.take(ready - 2**-20) == []
    assert core.take(ready) == ["a"]
    core.done("a", Outcome(after=5.0), 20.0)
    assert core.take(25.0 - 2**-20) == []
    assert core.take(25.0) == ["a"]


def test_keys_that_come_once_are_forgotten() -> None:
    """A cluster that makes and deletes models for years costs no memory."""
    core = make_core()
    for number in range(500):
        run(core, f"k{number}", number * 4.0)
    assert len(core._started) < 5
    assert core._valid == core._later == {}
