"""What the shares count, against counting it anew: whatever comes, starts, hangs and ends in whatever order."""

import random
from collections import Counter

import pytest

from capstan_operator.loop.shares import Limits, Shares

Key = tuple[str, int]
LIMITS = Limits(workers=8, patience=2.0)


@pytest.mark.parametrize("seed", range(4))
def test_the_account_is_that_of_what_is_there(seed: int) -> None:
    """Keys that are ahead, those of them that are in time, runs, runs of each group and slow runs."""
    rng = random.Random(seed)  # noqa: S311 - a test, and the same each time
    shares: Shares[Key] = Shares(LIMITS, group_of=lambda key: key[0])
    ahead: list[Key] = []
    waiting: list[Key] = []
    running: dict[Key, float] = {}
    now = 0.0
    for number in range(2000):
        now += rng.random()
        what = rng.random()
        if what < 0.4:
            key = (rng.choice("abcdef"), number)
            if shares.intake(now, seconds=rng.choice((1.0, 30.0)))(key):
                ahead.append(key)
        elif what < 0.6 and ahead:
            key = ahead.pop(rng.randrange(len(ahead)))
            if rng.random() < 0.1:
                shares.withdraw(key)
            else:
                shares.add(key)
                waiting.append(key)
        elif what < 0.75:
            for key in shares.start(now):
                waiting.remove(key)
                running[key] = now
        elif running:
            key = rng.choice(sorted(running))
            if what < 0.85:
                shares.is_overdue(key)
            else:
                del running[key]
                (shares.withdraw if rng.random() < 0.1 else lambda key: shares.end(key, now))(key)  # noqa: B023
        by_group = Counter(group for group, _ in (*ahead, *waiting))
        assert shares._ahead == by_group
        assert shares._ahead_in_time == sum(n for group, n in by_group.items() if group not in shares._slow)
        assert shares._running == Counter(group for group, _ in running)
        assert shares._slow_runs == sum(run.slow for run in shares._runs.values()) <= LIMITS.slow
        assert (shares.running, shares.slow_groups) == (len(running), len(shares._slow))
        assert shares.running - shares._slow_runs <= LIMITS.workers
