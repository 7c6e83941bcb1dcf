"""Who may run next, on plain data."""

from capstan_operator.loop.shares import NEWCOMERS_EVERY, Limits, Shares

LIMITS = Limits(workers=16, patience=2.0)
Key = tuple[str, int]


def make(limits: Limits = LIMITS, **waiting: int) -> Shares[Key]:
    """Give shares where so many keys of each group wait."""
    shares: Shares[Key] = Shares(limits, group_of=lambda key: key[0])
    for group, count in waiting.items():
        for number in range(count):
            arrive(shares, (group, number))
    return shares


def arrive(shares: Shares[Key], key: Key) -> None:
    """Let a key come that is prepared at once."""
    assert shares.intake(0.0, seconds=1e6)(key)
    shares.add(key)


def groups(keys: list[Key]) -> list[str]:
    """The groups of keys."""
    return [group for group, _ in keys]


def make_slow(shares: Shares[Key], keys: list[Key]) -> None:
    """Let runs last longer than the patience."""
    for key in keys:
        shares.is_overdue(key)


def test_a_group_that_waits_alone_leaves_a_quarter_to_those_who_come() -> None:
    """It has the other workers; who comes later has a quarter at once, although none of the first one's runs ends."""
    shares = make(a=200)
    assert groups(shares.start(0.0)) == ["a"] * 12
    for number in range(5):
        arrive(shares, ("b", number))
    assert groups(shares.start(0.0)) == ["b"] * 4


def test_a_group_has_no_more_than_a_quarter_while_others_wait() -> None:
    """What others have still to do comes first, and what runs beyond a quarter is not replaced as it ends."""
    shares = make(a=200)
    started = shares.start(0.0)
    for number in range(30):
        arrive(shares, (f"b{number}", 0))
    assert len(shares.start(0.0)) == 4
    for key in started[:8]:
        shares.end(key, 1.0)
        assert [group for group in groups(shares.start(1.0)) if group == "a"] == []


def test_runs_of_the_slow_count_in_what_a_group_may_have_beyond_its_share() -> None:
    """Somebody who is alone with groups that hang takes no more than a quarter once these have as much as is spare."""
    shares = make(**{f"hangs{number}": 9 for number in range(3)})
    make_slow(shares, shares.start(0.0))
    for number in range(50):
        arrive(shares, ("a", number))
    assert groups(shares.start(3.0)) == ["a"] * 4


def test_every_group_has_one_run_at_least() -> None:
    """With fewer workers than four a group still runs, and a single worker serves one group after the other."""
    shares = make(Limits(workers=1), a=2, b=1)
    assert shares.start(0.0) == [("a", 0)]
    shares.end(("a", 0), 1.0)
    assert shares.start(0.0) == [("b", 0)]


def test_many_groups_share_the_workers_evenly() -> None:
    """Of groups that wait, the one with the fewest runs comes first, and all workers are used."""
    shares = make(a=9, b=9, c=9, d=9, e=9)
    started = groups(shares.start(0.0))
    assert len(started) == 16
    assert sorted(started.count(group) for group in "abcde") == [3, 3, 3, 3, 4]


def test_slow_runs_hold_no_worker() -> None:
    """Sixteen groups that hang all at once, with a run each, keep nobody waiting for longer than the patience."""
    shares = make(**{f"hangs{number}": 200 for number in range(16)})
    first = shares.start(0.0)
    arrive(shares, ("well", 0))
    assert shares.start(0.0) == []
    make_slow(shares, first)
    started = shares.start(0.0)
    assert ("well", 0) in started


def test_a_slow_group_takes_no_worker_any_more() -> None:
    """What a group that hangs has still to do waits for the places of the slow, of which it has a share at most."""
    shares = make(hangs=200)
    running = shares.start(0.0)
    make_slow(shares, running)
    assert shares.start(2.0) == []
    assert not shares.intake(2.0, seconds=1e6)(("hangs", 200))
    for key in running[:8]:
        shares.end(key, 9.0)
        assert shares.start(9.0) == []
    shares.end(running[8], 9.0)
    assert shares.start(9.0) == [("hangs", 12)]
    arrive(shares, ("well", 0))
    assert shares.start(9.0) == [("well", 0)]


def test_a_slow_group_is_trusted_again_after_a_run_in_time() -> None:
    """Whoever has mended the webhook need not wait in the other line."""
    shares = make(hangs=8)
    running = shares.start(0.0)
    make_slow(shares, running)
    assert shares.is_slow(("hangs", 0))
    shares.end(running[0], 1.0)
    assert not shares.is_slow(("hangs", 0))
    assert shares.slow_groups == 0


def test_runs_for_which_the_slow_have_no_room_move_when_there_is_some() -> None:
    """A worker that a slow run holds is free as soon as another slow run ends."""
    shares = make(Limits(workers=1), **dict.fromkeys("abcd", 1))
    for group in "ab":
        assert shares.start(0.0) == [(group, 0)]
        make_slow(shares, [(group, 0)])
    assert shares.start(0.0) == [("c", 0)]
    assert not shares.is_overdue(("c", 0))
    assert shares.start(0.0) == []
    shares.end(("a", 0), 9.0)
    assert shares.start(0.0) == [("d", 0)]


def test_no_more_of_a_slow_group_is_prepared_than_may_run() -> None:
    """Listing for two hundred keys of which four may run would be for nothing."""
    shares = make(hangs=4)
    make_slow(shares, shares.start(0.0)[:1])
    shares.end(("hangs", 3), 9.0)
    admits = shares.intake(9.0, seconds=1e6)
    assert [admits(("hangs", number)) for number in (10, 11)] == [True, False]
    assert all(admits(("well", number)) for number in range(300))


def taken(shares: Shares[Key], group: str, *, now: float, seconds: float = 6.0) -> int:
    """How many of a thousand keys of a group are prepared now."""
    admits = shares.intake(now, seconds=seconds)
    keys = [(group, number) for number in range(1000) if admits((group, number))]
    for key in keys:
        shares.add(key)
    return len(keys)


def finish(shares: Shares[Key], *, runs: int, each: float, now: float = 0.0) -> float:
    """Let so many runs end, each after so many seconds."""
    while runs > 0:
        keys = shares.start(now)
        assert keys
        now += each
        for key in keys:
            shares.end(key, now)
        runs -= len(keys)
    return now


def test_no_more_is_prepared_than_is_likely_to_begin_in_time() -> None:
    """Twelve runs at once of a second each: in six seconds that is seventy-two, beside those that begin at once."""
    shares = make(a=600)
    now = finish(shares, runs=600, each=1.0)
    assert 12 * 6 + 12 <= taken(shares, "a", now=now) <= 12 * 6 + 16


def test_more_is_prepared_when_half_of_it_is_used_up() -> None:
    """A batch costs a list of everything, however few its keys are."""
    shares = make(a=600)
    now = finish(shares, runs=600, each=1.0)
    first = taken(shares, "a", now=now)
    assert taken(shares, "a", now=now) == 0
    now = finish(shares, runs=first // 2, each=1.0, now=now)
    assert taken(shares, "a", now=now) > 0


def test_a_group_of_which_nothing_is_under_way_does_not_wait_until_others_are_through() -> None:
    """Its first keys are prepared although enough of another's is; and not those of one newcomer after the other."""
    shares = make(a=600)
    now = finish(shares, runs=600, each=1.0)
    taken(shares, "a", now=now)
    shares.start(now)
    assert taken(shares, "b", now=now) == 4
    assert taken(shares, "c", now=now + 0.5) == 0
    assert taken(shares, "c", now=now + 1.0) == 4
    assert taken(shares, "b", now=now + 2.0) == 0


def test_a_slow_group_takes_nothing_from_what_is_prepared_of_others() -> None:
    """What waits of it may wait for long, and is not counted."""
    shares = make(hangs=400)
    make_slow(shares, shares.start(0.0))
    assert taken(shares, "well", now=2.0) > 200


def test_what_is_not_run_leaves_no_trace() -> None:
    """Keys that could not be prepared, or came too late to their turn, are prepared again, and teach nothing."""
    shares: Shares[Key] = Shares(LIMITS, group_of=lambda key: key[0])
    assert shares.intake(0.0, seconds=1e6)(("a", 1))
    shares.withdraw(("a", 1))
    arrive(shares, ("a", 2))
    make_slow(shares, shares.start(0.0))
    shares.withdraw(("a", 2))
    assert (shares.running, shares.slow_groups) == (0, 1)
    assert [taken(shares, "a", now=1.0), taken(shares, "a", now=1.0)] == [4, 0]


def test_a_group_of_which_nothing_runs_for_long_is_forgotten() -> None:
    """Its namespace may be gone; it is not slow for ever. One that still has something to do is not forgotten."""
    shares = make(gone=1, hangs=1)
    make_slow(shares, shares.start(0.0))
    shares.end(("gone", 0), 60.0)
    shares.end(("hangs", 0), 60.0)
    arrive(shares, ("hangs", 1))
    shares.intake(60.0 + 899.0, seconds=1.0)
    assert shares.slow_groups == 2
    shares.intake(60.0 + 900.0, seconds=1.0)
    assert (shares.slow_groups, shares.is_slow(("hangs", 0))) == (1, True)
    assert not shares.is_slow(("gone", 0))


def test_a_run_that_is_over_cannot_become_overdue() -> None:
    """The patience may run out at the moment at which the run ends."""
    shares = make(a=1)
    shares.start(0.0)
    shares.end(("a", 0), 1.0)
    assert not shares.is_overdue(("a", 0))
    assert not shares.is_slow(("a", 0))


def test_a_slow_group_runs_in_places_of_the_slow_alone() -> None:
    """When they are all taken it waits, however many workers are free, and whoever else comes and goes meanwhile."""
    shares: Shares[tuple[str, int]] = Shares(Limits(workers=4), group_of=lambda key: key[0])
    groups = [f"slow-{number}" for number in range(9)]
    for group in groups:
        arrive(shares, (group, 1))
        assert shares.start(0.0) == [(group, 1)]
        assert shares.is_overdue((group, 1)) is (group != groups[8])  # the ninth finds no place among the slow
    shares.end((groups[8], 1), 9.0)
    arrive(shares, (groups[8], 2))
    assert shares.start(0.0) == []
    arrive(shares, ("well", 1))
    assert shares.start(0.0) == [("well", 1)]
    shares.end(("well", 1), 1.0)
    assert shares.start(0.0) == []
    shares.end((groups[0], 1), 9.0)
    assert shares.start(0.0) == [(groups[8], 2)]


def test_what_is_prepared_of_a_group_follows_its_own_pace() -> None:
    """One whose runs last long has no more ahead than it will begin; it is filled up when half of that is used up."""
    shares = make(lasts=80)
    now = finish(shares, runs=80, each=12.0)

    def prepared() -> int:
        admits = shares.intake(now, seconds=6.0)
        return sum(admits(("lasts", number)) for number in range(1000))

    most = prepared()
    assert 12 <= most <= 12 + 12 * 6 // 11
    for number in range(most - most // 2 - 1):
        shares.withdraw(("lasts", number))
    assert prepared() == 0, "more than half of it is still to come"
    shares.withdraw(("lasts", 0))
    assert prepared() == most - most // 2
    assert taken(shares, "other", now=now) > 100


def test_a_newcomer_that_was_refused_may_be_prepared_a_moment_later() -> None:
    """Nothing else need happen for that, so somebody has to look again then; without one nobody has to."""
    shares = make(a=600)
    now = finish(shares, runs=600, each=1.0)
    assert shares.next_intake() is None
    taken(shares, "a", now=now)
    shares.start(now)
    assert shares.next_intake() is None
    assert taken(shares, "b", now=now) == 4
    assert shares.next_intake() is None
    assert taken(shares, "c", now=now + 0.5) == 0
    assert shares.next_intake() == now + NEWCOMERS_EVERY


def _prepare(shares: Shares[Key], now: float = 0.0, **counts: int) -> dict[str, int]:
    """Ask at one moment for so many keys of each group, in turns; give how many are prepared of each."""
    admits = shares.intake(now, seconds=0.0)
    found = dict.fromkeys(counts, 0)
    for number in range(max(counts.values())):
        for group, count in counts.items():
            found[group] += number < count and admits((group, number))
    return found


def test_more_is_prepared_as_soon_as_half_of_what_can_begin_is_left() -> None:
    """Of sixteen workers eight: one more that is left, and nothing is filled up."""
    shares: Shares[Key] = Shares(LIMITS, group_of=lambda key: key[0])
    assert _prepare(shares, a=4, b=4) == {"a": 4, "b": 4}
    assert _prepare(shares, a=1) == {"a": 1}
    assert _prepare(shares, a=1, b=1) == {"a": 0, "b": 0}


def test_what_is_prepared_of_all_has_a_bound_and_newcomers_have_one_beyond_it() -> None:
    """As many as can begin; and as many again of groups of which nothing was under way, however many they are."""
    shares: Shares[Key] = Shares(LIMITS, group_of=lambda key: key[0])
    assert sum(_prepare(shares, **{f"g{number}": 5 for number in range(6)}).values()) == 16
    assert sum(_prepare(shares, **{f"new{number}": 9 for number in range(20)}).values()) == 16
    assert sum(_prepare(shares, 9.0, **{f"newer{number}": 9 for number in range(20)}).values()) == 0


def test_a_slow_group_is_prepared_however_much_is_ahead_of_others() -> None:
    """It has places of its own, which nobody else takes, and what waits of it counts for nobody."""
    shares = make(hangs=1)
    make_slow(shares, shares.start(0.0))
    _prepare(shares, **{f"g{number}": 5 for number in range(6)})
    _prepare(shares, **{f"new{number}": 9 for number in range(20)})
    before = shares._ahead_in_time
    assert _prepare(shares, hangs=9) == {"hangs": 3}
    assert shares._ahead_in_time == before == 32


def test_a_newcomer_that_was_refused_is_remembered_although_others_were_refused_after_it() -> None:
    """They will be prepared when something ends; it need not wait for that."""
    shares: Shares[Key] = Shares(LIMITS, group_of=lambda key: key[0])
    _prepare(shares, a=8, b=8)
    assert _prepare(shares, first=1) == {"first": 1}
    assert _prepare(shares, 0.5, second=1, a=1) == {"second": 0, "a": 0}
    assert shares.next_intake() == NEWCOMERS_EVERY
    assert _prepare(shares, 0.6, a=1) == {"a": 0}
    assert shares.next_intake() is None


def test_who_was_refused_because_enough_is_prepared_waits_for_what_ends() -> None:
    """A newcomer among many, and one of many when all is filled up: to look again a moment later would be in vain."""
    shares: Shares[Key] = Shares(LIMITS, group_of=lambda key: key[0])
    _prepare(shares, a=8, b=8)
    assert sum(_prepare(shares, **{f"new{number}": 1 for number in range(20)}).values()) == 16
    assert shares.next_intake() is None
    for number in range(16):
        shares.withdraw((f"new{number}", 0))
    for number in range(8):
        shares.withdraw(("a", number))
    assert sum(_prepare(shares, 0.5, **{f"more{number}": 9 for number in range(9)}).values()) == 8
    assert shares.next_intake() is None


def test_a_group_that_is_busy_keeps_no_other_one_from_being_forgotten() -> None:
    """Whichever has run first; and with a group its pace is forgotten."""
    shares = make(busy=1, gone=1)
    shares.start(0.0)
    shares.end(("busy", 0), 50.0)
    shares.end(("gone", 0), 50.0)
    arrive(shares, ("busy", 1))
    before = taken(shares, "gone", now=60.0, seconds=6.0)
    for number in range(before):
        shares.withdraw(("gone", number))
    shares._waiting.pop("gone")
    assert taken(shares, "gone", now=60.0 + 2000.0, seconds=6.0) > before
