"""The store of limits in memory, one rule at a time."""

import pytest

from capstan_gateway.limits.memory import MemoryLimitStore
from capstan_gateway.limits.port import LEASE_MS, Outcome, Quota, Rate, Slots, Standing, Verdict
from support.limits import START_MS, Clock, at_once, charge

PER_SECOND = Rate(amount=10, window_ms=1_000, capacity=10)
BUDGET = Quota(limit=100, starts_ms=(START_MS - 60_000, START_MS, START_MS + 60_000))
TWO = Slots(limit=2)


@pytest.fixture
def clock() -> Clock:
    """A clock of the test's own."""
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryLimitStore:
    """A store that goes by it."""
    return MemoryLimitStore(clock)


def reserve(store: MemoryLimitStore, id: str, *charges: object, **options: object) -> Verdict:
    """Reserve at once."""
    return at_once(store.reserve(id, charges, **options))  # type: ignore[arg-type]


def settle(store: MemoryLimitStore, id: str, *used: int) -> None:
    """Settle at once."""
    at_once(store.settle("policy", id, used))


def test_a_rate_gives_its_capacity_at_once_and_then_what_comes_in(store: MemoryLimitStore, clock: Clock) -> None:
    """Of ten a second eleven are never had at one moment, and one more comes in every 100 ms."""
    assert all(reserve(store, f"r{number}", charge(PER_SECOND)).admitted for number in range(10))
    refused = reserve(store, "one more", charge(PER_SECOND))
    assert (refused.outcome, refused.wait_ms) == (Outcome.WAIT, 100)
    assert refused.standings == (Standing(remaining=0, reset_ms=1_000),)
    clock.step(99)
    assert reserve(store, "too early", charge(PER_SECOND)).wait_ms == 1
    clock.step(1)
    assert reserve(store, "in time", charge(PER_SECOND)).admitted


def test_a_quota_is_full_again_when_its_period_is_over(store: MemoryLimitStore, clock: Clock) -> None:
    """What does not fit any more waits for the next period, and there it fits."""
    assert reserve(store, "most", charge(BUDGET, 90)).standings == (Standing(remaining=10, reset_ms=60_000),)
    refused = reserve(store, "too much", charge(BUDGET, 20))
    assert (refused.outcome, refused.denied, refused.wait_ms) == (Outcome.SPENT, 0, 60_000)
    clock.step(60_000)
    assert reserve(store, "next", charge(BUDGET, 100)).standings[0].remaining == 0


def test_slots_come_back_when_they_are_settled(store: MemoryLimitStore) -> None:
    """No more run at once than there are slots, whatever is said to be used of one in the end."""
    assert reserve(store, "a", charge(TWO)).admitted
    assert reserve(store, "b", charge(TWO)).admitted
    assert reserve(store, "c", charge(TWO)).outcome is Outcome.WAIT
    settle(store, "a", 1)
    assert reserve(store, "c", charge(TWO)).admitted


def test_all_or_nothing(store: MemoryLimitStore) -> None:
    """What one bucket refuses changes no other one."""
    assert reserve(store, "a", charge(TWO, 2)).admitted
    refused = reserve(store, "b", charge(PER_SECOND, 3), charge(TWO))
    assert (refused.outcome, refused.denied) == (Outcome.WAIT, 1)
    assert reserve(store, "c", charge(PER_SECOND, 10)).admitted


def test_the_worst_reason_is_told(store: MemoryLimitStore) -> None:
    """More than a bucket ever holds is said before a spent quota, that before a wait; the wait is for all of them."""
    reserve(store, "a", charge(PER_SECOND, 10), charge(BUDGET, 100))
    both = reserve(store, "b", charge(PER_SECOND, 5), charge(BUDGET, 1))
    assert (both.outcome, both.denied, both.wait_ms) == (Outcome.SPENT, 1, 60_000)
    never = reserve(store, "c", charge(PER_SECOND, 5), charge(BUDGET, 101))
    assert (never.outcome, never.denied, never.wait_ms) == (Outcome.NEVER, 1, 0)


def test_what_was_not_used_comes_back(store: MemoryLimitStore) -> None:
    """A settled reservation has taken what was used, of every kind, and a settlement counts once."""
    reserve(store, "a", charge(PER_SECOND, 10), charge(BUDGET, 100))
    for _ in range(3):
        settle(store, "a", 2, 30)
    seen = reserve(store, "look", charge(PER_SECOND, 0), charge(BUDGET, 0))
    assert [standing.remaining for standing in seen.standings] == [8, 70]


def test_what_was_used_beyond_is_charged(store: MemoryLimitStore) -> None:
    """More than what was reserved is taken whatever is left: what remains is below zero then."""
    reserve(store, "a", charge(PER_SECOND, 1), charge(BUDGET, 1))
    settle(store, "a", 15, 130)
    seen = reserve(store, "look", charge(PER_SECOND, 0), charge(BUDGET, 0))
    assert [standing.remaining for standing in seen.standings] == [-5, -30]


def test_a_reservation_said_twice_counts_once(store: MemoryLimitStore) -> None:
    """The same id again is admitted again, and nothing more is taken."""
    for _ in range(3):
        assert reserve(store, "a", charge(PER_SECOND, 6)).standings[0].remaining == 4


def test_a_settlement_that_comes_first_counts(store: MemoryLimitStore) -> None:
    """A reservation that comes behind its settlement takes what it used, once, and holds nothing."""
    settle(store, "a", 3, 1)
    for _ in range(3):
        verdict = reserve(store, "a", charge(PER_SECOND, 10), charge(TWO, 2))
        assert verdict.admitted
        assert [standing.remaining for standing in verdict.standings] == [7, 2]


def test_a_dead_makers_reservation_returns(store: MemoryLimitStore, clock: Clock) -> None:
    """When the lease is over, what was reported as used stays charged, and the rest is there again."""
    reserve(store, "a", charge(BUDGET, 80), charge(TWO, 2))
    clock.step(LEASE_MS - 1)
    at_once(store.renew("policy", [("a", (10, 0))]))
    clock.step(LEASE_MS - 1)
    assert reserve(store, "early", charge(TWO)).outcome is Outcome.WAIT
    clock.step(1)
    verdict = reserve(store, "b", charge(BUDGET, 90), charge(TWO, 2))
    assert verdict.admitted


def test_a_share_stays_charged(store: MemoryLimitStore, clock: Clock) -> None:
    """With `keeps` only slots come back by the end of a lease, and by a late settlement what was not used."""
    reserve(store, "a", charge(BUDGET, 80), charge(TWO, 2), keeps=True)
    clock.step(LEASE_MS)
    seen = reserve(store, "b", charge(BUDGET, 20), charge(TWO, 2))
    assert [standing.remaining for standing in seen.standings] == [0, 0]
    settle(store, "a", 50, 0)
    assert reserve(store, "look", charge(BUDGET, 0)).standings[0].remaining == 30


def test_a_rate_fills_up_to_its_capacity_less_what_is_held_of_it(store: MemoryLimitStore, clock: Clock) -> None:
    """Bucket and shares together never give more than the bucket: what a share has left comes in when it is used."""
    reserve(store, "share", charge(PER_SECOND, 4), keeps=True)
    clock.step(10_000)
    assert reserve(store, "look", charge(PER_SECOND, 0)).standings[0] == Standing(remaining=6, reset_ms=0)
    at_once(store.renew("policy", [("share", (3,))]))
    assert reserve(store, "look", charge(PER_SECOND, 0)).standings[0] == Standing(remaining=6, reset_ms=300)
    clock.step(300)
    assert reserve(store, "look", charge(PER_SECOND, 0)).standings[0].remaining == 9
    assert at_once(store.extend("share", [charge(PER_SECOND, 6)], used=(3,))).standings[0].remaining == 7
    settle(store, "share", 3)
    assert reserve(store, "look", charge(PER_SECOND, 0)).standings[0].remaining == 10


def test_a_share_whose_lease_is_over_is_lost(store: MemoryLimitStore, clock: Clock) -> None:
    """What a share had left counts as used when its lease is over; renewed all the same, it is held again."""
    reserve(store, "share", charge(PER_SECOND, 10), keeps=True)
    clock.step(LEASE_MS)
    assert reserve(store, "look", charge(PER_SECOND, 0)).standings[0] == Standing(remaining=0, reset_ms=1_000)
    assert at_once(store.extend("share", [charge(PER_SECOND, 10)], used=(0,))).outcome is Outcome.LOST
    clock.step(500)
    at_once(store.renew("policy", [("share", (2,))]))
    clock.step(10_000)
    assert reserve(store, "look", charge(PER_SECOND, 0)).standings[0].remaining == 2


def test_a_late_settlement_is_charged(store: MemoryLimitStore, clock: Clock) -> None:
    """What was used is charged also when the lease has ended before it was said, and only once."""
    reserve(store, "a", charge(BUDGET, 80))
    clock.step(LEASE_MS)
    assert reserve(store, "look", charge(BUDGET, 0)).standings[0].remaining == 100
    settle(store, "a", 70)
    settle(store, "a", 70)
    assert reserve(store, "look again", charge(BUDGET, 0)).standings[0].remaining == 30


def test_extend_says_what_is_held_in_all(store: MemoryLimitStore) -> None:
    """An amount in all is taken once, however often it is said; what does not fit changes nothing."""
    reserve(store, "a", charge(BUDGET, 20), charge(TWO))
    for _ in range(2):
        extended = at_once(store.extend("a", [charge(BUDGET, 50), charge(TWO)], used=(20, 0)))
        assert (extended.outcome, extended.standings[0].remaining) == (Outcome.ADMITTED, 50)
    refused = at_once(store.extend("a", [charge(BUDGET, 101), charge(TWO)], used=(50, 0)))
    assert (refused.outcome, refused.denied) == (Outcome.SPENT, 0)
    settle(store, "a", 50, 0)
    assert reserve(store, "look", charge(BUDGET, 0)).standings[0].remaining == 50


def test_extend_opens_what_has_ended_or_says_that_it_is_lost(store: MemoryLimitStore, clock: Clock) -> None:
    """Behind its lease a reservation is had again when all of it is still there; one that nobody knows is lost."""
    reserve(store, "a", charge(BUDGET, 50), charge(TWO))
    clock.step(LEASE_MS)
    reserve(store, "other", charge(BUDGET, 40), charge(TWO))
    assert at_once(store.extend("a", [charge(BUDGET, 61), charge(TWO)], used=(50, 0))).outcome is Outcome.SPENT
    reopened = at_once(store.extend("a", [charge(BUDGET, 60), charge(TWO)], used=(50, 0)))
    assert (reopened.outcome, reopened.standings[0].remaining) == (Outcome.ADMITTED, 0)
    assert at_once(store.extend("b", [charge(BUDGET, 1)], used=(0,))).outcome is Outcome.LOST
    settle(store, "a", 60, 0)
    assert at_once(store.extend("a", [charge(BUDGET, 1), charge(TWO)], used=(0, 0))).outcome is Outcome.LOST


def test_renew_takes_again_what_a_living_maker_had_lost(store: MemoryLimitStore, clock: Clock) -> None:
    """Whoever renews behind the end of the lease is alive, and uses what it holds."""
    reserve(store, "a", charge(BUDGET, 50), charge(TWO, 2))
    clock.step(LEASE_MS)
    reserve(store, "other", charge(BUDGET, 60), charge(TWO))
    at_once(store.renew("policy", [("a", (20, 0)), ("unknown", (1, 1))]))
    seen = reserve(store, "look", charge(BUDGET, 0), charge(TWO, 0))
    assert [standing.remaining for standing in seen.standings] == [-10, -1]


def test_force_takes_whatever_is_left(store: MemoryLimitStore) -> None:
    """What was used while nobody could be asked is charged."""
    assert reserve(store, "a", charge(BUDGET, 300), force=True).standings[0].remaining == -200


def test_nothing_is_kept_that_nobody_needs(store: MemoryLimitStore, clock: Clock) -> None:
    """Full buckets, ended reservations and groups that nobody asks for any more are forgotten."""
    for number in range(200):
        group = f"policy{number % 10}"
        reserve(store, f"r{number}", charge(PER_SECOND, key=f"k{number}", group=group))
    assert len(store) == 400
    clock.step(4_000_000)
    for number in range(10):
        reserve(store, f"look{number}", charge(PER_SECOND, 0, group="another"))
    assert len(store) <= 11


def test_a_clock_that_steps_back_a_little_stands_still(store: MemoryLimitStore, clock: Clock) -> None:
    """Nothing comes in twice, and the wait that is told is as much longer as the clock has to go."""
    reserve(store, "a", charge(PER_SECOND, 10))
    settle(store, "a", 10)
    clock.step(-5_000)
    refused = reserve(store, "b", charge(PER_SECOND))
    assert refused.wait_ms == 5_100
    clock.step(5_099)
    assert reserve(store, "early", charge(PER_SECOND)).wait_ms == 1
    clock.step(1)
    assert reserve(store, "in time", charge(PER_SECOND)).admitted


def test_a_clock_that_steps_back_far_goes_on_from_there(store: MemoryLimitStore, clock: Clock) -> None:
    """Nobody waits for hours until a wrong time is there again: not for a bucket, a budget, or a dead one's slots."""
    clock.step(10 * 3_600_000)
    later = Quota(limit=100, starts_ms=(clock.now - 60_000, clock.now, clock.now + 60_000))
    reserve(store, "a", charge(PER_SECOND, 10), charge(later, 90), charge(TWO, 2))
    settle(store, "unknown")
    clock.step(-10 * 3_600_000)
    seen = reserve(store, "b", charge(PER_SECOND), charge(BUDGET, 20), charge(TWO))
    assert (seen.outcome, seen.denied, seen.wait_ms) == (Outcome.SPENT, 1, 60_000)
    assert reserve(store, "c", charge(PER_SECOND)).wait_ms == 100
    settle(store, "unknown")
    clock.step(LEASE_MS)
    assert reserve(store, "d", charge(TWO, 2)).admitted


def test_a_budget_keeps_its_period_when_the_clock_steps_back_over_its_beginning(
    store: MemoryLimitStore, clock: Clock
) -> None:
    """A period that has begun goes on: what was spent of it is not forgotten when it begins once more."""
    reserve(store, "a", charge(BUDGET, 100))
    settle(store, "a", 100)
    clock.step(-2_000)
    assert reserve(store, "b", charge(BUDGET, 1)).wait_ms == 62_000
    clock.step(2_000)
    assert reserve(store, "c", charge(BUDGET, 1)).outcome is Outcome.SPENT


def test_what_time_has_refilled_is_not_given_back_once_more(store: MemoryLimitStore, clock: Clock) -> None:
    """A bucket is, after a settlement, as if only what was used had been taken from the beginning."""
    reserve(store, "a", charge(PER_SECOND, 10))
    clock.step(700)
    assert reserve(store, "b", charge(PER_SECOND, 7)).standings[0].remaining == 0
    settle(store, "a", 0)
    assert reserve(store, "look", charge(PER_SECOND, 0)).standings[0].remaining == 3


def test_settlements_in_a_row_give_back_what_they_took_together(store: MemoryLimitStore, clock: Clock) -> None:
    """What one has got back is not got back by another one once more, in whatever order they were made."""
    reserve(store, "a", charge(PER_SECOND, 6))
    reserve(store, "b", charge(PER_SECOND, 4))
    clock.step(300)
    reserve(store, "c", charge(PER_SECOND, 3))
    settle(store, "a", 0)
    settle(store, "b", 0)
    assert reserve(store, "look", charge(PER_SECOND, 0)).standings[0].remaining == 7


def test_an_older_settlement_sees_what_a_younger_one_got_back(store: MemoryLimitStore, clock: Clock) -> None:
    """The bucket is as if neither had taken anything, but for what time did."""
    reserve(store, "a", charge(PER_SECOND, 5))
    reserve(store, "b", charge(PER_SECOND, 4))
    clock.step(300)
    reserve(store, "c", charge(PER_SECOND, 1))
    settle(store, "b", 0)
    settle(store, "a", 0)
    assert reserve(store, "look", charge(PER_SECOND, 0)).standings[0].remaining == 9


def test_all_parts_of_a_reservation_come_back(store: MemoryLimitStore) -> None:
    """What was taken first comes back as well as what was taken last."""
    reserve(store, "s", charge(PER_SECOND, 4))
    at_once(store.extend("s", [charge(PER_SECOND, 6)], used=(0,)))
    settle(store, "s", 0)
    assert reserve(store, "look", charge(PER_SECOND, 0)).standings[0].remaining == 10


def test_a_dead_ones_budget_returns_hours_later(store: MemoryLimitStore, clock: Clock) -> None:
    """A reservation is remembered for as long as its budget's period, also when nobody asks meanwhile."""
    day = Quota(limit=100, starts_ms=(START_MS - 86_400_000, START_MS, START_MS + 86_400_000))
    reserve(store, "a", charge(day, 80))
    clock.step(10 * 3_600_000)
    assert reserve(store, "look", charge(day, 0)).standings[0].remaining == 100


def test_extend_leaves_the_lease_as_it_was(store: MemoryLimitStore, clock: Clock) -> None:
    """A lease is begun anew by renewing, and by opening what has ended."""
    reserve(store, "a", charge(TWO))
    clock.step(LEASE_MS - 1)
    assert at_once(store.extend("a", [charge(TWO, 2)], used=(0,))).admitted
    clock.step(1)
    assert reserve(store, "b", charge(TWO, 2)).admitted


def test_many_changes_without_a_pause_give_nearly_all_back(store: MemoryLimitStore) -> None:
    """Of 63 reservations all comes back, of many more at least nine tenths, and never more than was taken."""
    rule = Rate(amount=1_000, window_ms=86_400_000, capacity=1_000)
    for number in range(63):
        assert reserve(store, f"f{number}", charge(rule)).admitted
    for number in range(63):
        settle(store, f"f{number}", 0)
    assert reserve(store, "look at once", charge(rule, 0)).standings[0].remaining == 1_000
    for number in range(1_000):
        assert reserve(store, f"r{number}", charge(rule)).admitted
    for number in range(1_000):
        settle(store, f"r{number}", 0)
    assert 900 <= reserve(store, "look", charge(rule, 0)).standings[0].remaining <= 1_000


def test_a_changed_rule_counts_what_was_had(store: MemoryLimitStore) -> None:
    """A raised limit has more at once, a lowered one less, and another window the same."""
    reserve(store, "a", charge(Rate(10, 1_000, 10), 6))
    settle(store, "a", 6)
    for rule, remaining in ((Rate(20, 1_000, 20), 14), (Rate(7, 60_000, 7), 1), (Rate(5, 1_000, 5), -1)):
        assert reserve(store, f"look{rule}", charge(rule, 0)).standings[0].remaining == remaining


def test_a_stream_gets_back_what_it_took_last(store: MemoryLimitStore, clock: Clock) -> None:
    """Of a stream that takes slice by slice, the rest of the last slice comes back, whatever time did before."""
    reserve(store, "s", charge(PER_SECOND, 5))
    at_once(store.extend("s", [charge(PER_SECOND, 10)], used=(4,)))
    clock.step(5_000)
    at_once(store.extend("s", [charge(PER_SECOND, 15)], used=(9,)))
    settle(store, "s", 11)
    assert reserve(store, "look", charge(PER_SECOND, 0)).standings[0].remaining == 9


@pytest.mark.parametrize(
    "charges",
    [
        [],
        [charge(TWO), charge(TWO, 2)],
        [charge(TWO), charge(TWO, group="another")],
        [charge(TWO, -1)],
        [charge(Quota(limit=1, starts_ms=(5,)))],
        [charge(Quota(limit=1, starts_ms=(5, 5)))],
        [charge(Rate(amount=0, window_ms=1, capacity=1))],
    ],
)
def test_what_can_never_be_right_changes_nothing(store: MemoryLimitStore, charges: list[object]) -> None:
    """Charges that make no sense are refused before anything is taken."""
    with pytest.raises(ValueError, match=r"must|only once"):
        reserve(store, "a", *charges)
    assert len(store) == 0
