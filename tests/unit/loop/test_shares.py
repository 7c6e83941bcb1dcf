"""Who may run next, on plain data."""

from capstan_operator.loop.shares import Limits, Shares

LIMITS = Limits(workers=16, patience=2.0)
Key = tuple[str, int]


def make(limits: Limits = LIMITS, **waiting: int) -> Shares[Key]:
    """Give shares where so many keys of each group wait."""
    shares: Shares[Key] = Shares(limits, group_of=lambda key: key[0])
    for group, count in waiting.items():
        for number in range(count):
            shares.add((group, number))
    return shares


def groups(keys: list[Key]) -> list[str]:
    """The groups of keys."""
    return [group for group, _ in keys]


def make_slow(shares: Shares[Key], keys: list[Key]) -> None:
    """Let runs last longer than the patience."""
    for key in keys:
        shares.is_overdue(key)


def test_a_group_has_a_quarter_of_the_workers() -> None:
    """One group that waits alone leaves three quarters for those who come later, at once."""
    shares = make(a=200)
    assert groups(shares.start()) == ["a"] * 4
    shares.add(("b", 0))
    assert groups(shares.start()) == ["b"]


def test_every_group_has_one_run_at_least() -> None:
    """With fewer workers than four a group still runs, and a single worker serves one group after the other."""
    shares = make(Limits(workers=1), a=2, b=1)
    assert shares.start() == [("a", 0)]
    shares.end(("a", 0), in_time=True)
    assert shares.start() == [("b", 0)]


def test_many_groups_share_the_workers_evenly() -> None:
    """Of groups that wait, the one with the fewest runs comes first, and all workers are used."""
    shares = make(a=9, b=9, c=9, d=9, e=9)
    started = groups(shares.start())
    assert len(started) == 16
    assert sorted(started.count(group) for group in "abcde") == [3, 3, 3, 3, 4]


def test_slow_runs_hold_no_worker() -> None:
    """Sixteen groups that hang all at once, with a run each, keep nobody waiting for longer than the patience."""
    shares = make(**{f"hangs{number}": 200 for number in range(16)})
    first = shares.start()
    shares.add(("well", 0))
    assert shares.start() == []
    make_slow(shares, first)
    started = shares.start()
    assert ("well", 0) in started


def test_a_slow_group_takes_no_worker_any_more() -> None:
    """What a group that hangs has still to do waits for the places of the slow, of which it has a share at most."""
    shares = make(hangs=200)
    make_slow(shares, shares.start())
    assert shares.start() == []
    assert shares.is_full(("hangs", 100))
    shares.end(("hangs", 0), in_time=False)
    assert shares.start() == [("hangs", 4)]
    shares.add(("well", 0))
    assert shares.start() == [("well", 0)]


def test_a_slow_group_is_trusted_again_after_a_run_in_time() -> None:
    """Whoever has mended the webhook need not wait in the other line."""
    shares = make(hangs=8)
    running = shares.start()
    make_slow(shares, running)
    assert shares.is_slow(("hangs", 0))
    shares.end(running[0], in_time=True)
    assert not shares.is_slow(("hangs", 0))
    assert shares.slow_groups == 0


def test_runs_for_which_the_slow_have_no_room_move_when_there_is_some() -> None:
    """A worker that a slow run holds is free as soon as another slow run ends."""
    shares = make(Limits(workers=1), **dict.fromkeys("abcd", 1))
    for group in "ab":
        assert shares.start() == [(group, 0)]
        make_slow(shares, [(group, 0)])
    assert shares.start() == [("c", 0)]
    assert not shares.is_overdue(("c", 0))
    assert shares.start() == []
    shares.end(("a", 0), in_time=False)
    assert shares.start() == [("d", 0)]


def test_no_more_of_a_slow_group_is_prepared_than_may_run() -> None:
    """Listing for two hundred keys of which four may run would be for nothing."""
    shares = make(hangs=4)
    make_slow(shares, shares.start()[:1])
    shares.end(("hangs", 3), in_time=False)
    admits = shares.intake()
    assert [admits(("hangs", number)) for number in (10, 11)] == [True, False]
    assert all(admits(("well", number)) for number in range(300))


def test_a_run_that_is_over_cannot_become_overdue() -> None:
    """The patience may run out at the moment at which the run ends."""
    shares = make(a=1)
    shares.start()
    shares.end(("a", 0), in_time=True)
    assert not shares.is_overdue(("a", 0))
    assert not shares.is_slow(("a", 0))


def test_a_slow_group_runs_in_places_of_the_slow_alone() -> None:
    """When they are all taken it waits, however many workers are free, and whoever else comes and goes meanwhile."""
    shares: Shares[tuple[str, int]] = Shares(Limits(workers=4), group_of=lambda key: key[0])
    groups = [f"slow-{number}" for number in range(9)]
    for group in groups:
        shares.add((group, 1))
        assert shares.start() == [(group, 1)]
        assert shares.is_overdue((group, 1)) is (group != groups[8])  # the ninth finds no place among the slow
    shares.end((groups[8], 1), in_time=False)
    shares.add((groups[8], 2))
    assert shares.start() == []
    shares.add(("well", 1))
    assert shares.start() == [("well", 1)]
    shares.end(("well", 1), in_time=True)
    assert shares.start() == []
    shares.end((groups[0], 1), in_time=False)
    assert shares.start() == [(groups[8], 2)]


def test_a_slow_group_is_full_when_it_has_all_the_runs_that_it_may() -> None:
    """One place left is room for one; a group that is not slow is never full."""
    shares: Shares[tuple[str, int]] = Shares(Limits(workers=8), group_of=lambda key: key[0])
    shares.add(("g", 1))
    shares.start()
    assert not shares.is_full(("g", 9))
    shares.is_overdue(("g", 1))
    assert not shares.is_full(("g", 9))
    shares.add(("g", 2))
    assert shares.is_full(("g", 9))  # what waits counts too
    shares.start()
    assert shares.is_full(("g", 9))
    assert not shares.is_full(("other", 9))
