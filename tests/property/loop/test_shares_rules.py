"""The shares against every order of arrivals, slowness and ends."""

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from capstan_operator.loop.shares import Limits, Shares

LIMITS = Limits(workers=5)
GROUPS = st.sampled_from("abcdefg")


class SharesMachine(RuleBasedStateMachine):
    """Keeps its own account of who waits, who runs and who is slow."""

    def __init__(self) -> None:
        super().__init__()
        self.shares: Shares[tuple[str, int]] = Shares(LIMITS, group_of=lambda key: key[0])
        self.waiting: list[tuple[str, int]] = []
        self.running: list[tuple[str, int]] = []
        self.overdue: set[tuple[str, int]] = set()
        self.made = 0

    @rule(group=GROUPS, count=st.integers(1, 9))
    def add(self, group: str, count: int) -> None:
        """Keys come."""
        for _ in range(count):
            self.made += 1
            if self.shares.intake(0.0, seconds=1e6)((group, self.made)):
                self.waiting.append((group, self.made))
                self.shares.add((group, self.made))
            else:
                assert self.shares.is_slow((group, 0))
        self.start()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def overrun(self, data: st.DataObject) -> None:
        """A run lasts."""
        key = data.draw(st.sampled_from(self.running))
        self.overdue.add(key)
        self.shares.is_overdue(key)
        self.start()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A run ends."""
        key = data.draw(st.sampled_from(self.running))
        self.running.remove(key)
        self.shares.end(key, 9.0 if key in self.overdue else 1.0)
        self.overdue.discard(key)
        self.start()

    def start(self) -> None:
        """Start what may run: only what waits, of each group in the order in which it came."""
        for key in self.shares.start(0.0):
            assert key == next(other for other in self.waiting if other[0] == key[0])
            self.waiting.remove(key)
            self.running.append(key)

    @invariant()
    def is_bounded(self) -> None:
        """Neither all groups together nor one of them has more than it may."""
        assert self.shares.running == len(self.running) <= LIMITS.most
        assert len(set(self.running) - self.overdue) <= LIMITS.workers + LIMITS.slow
        counts = Counter(group for group, _ in self.running)
        beyond = sum(max(count - LIMITS.share, 0) for count in counts.values())
        assert all(count <= LIMITS.most_of_one for count in counts.values())
        assert beyond <= LIMITS.workers - 2 * LIMITS.share

    @invariant()
    def keeps_nobody_waiting_without_need(self) -> None:
        """A group that waits has its share, and no more is spare, or all places of its kind are taken."""
        counts = Counter(group for group, _ in self.running)
        for group in {group for group, _ in self.waiting}:
            if counts[group] >= LIMITS.share:
                is_spare = len(self.running) < LIMITS.workers - LIMITS.share
                assert self.shares.is_slow((group, 0)) or not is_spare
                continue
            if self.shares.is_slow((group, 0)):
                assert len(self.running) >= LIMITS.slow
            else:
                # NB: more than the workers where some are slow, which one cannot see from here.
                assert len(self.running) >= LIMITS.workers


TestSharesMachine = SharesMachine.TestCase
