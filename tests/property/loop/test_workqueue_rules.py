"""The work queue against every order of wake-ups, takes and ends."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from capstan_operator.loop.workqueue import Outcome, Pace, QueueCore

KEYS = st.sampled_from("abcd")
PACE = Pace(lead=0.05, quiet=0.3, most=2.0)
SLACK = 1e-9


class QueueMachine(RuleBasedStateMachine):
    """Drives the queue and keeps the simplest possible account of what it owes."""

    def __init__(self) -> None:
        super().__init__()
        self.core: QueueCore[str] = QueueCore(PACE, rng=lambda: 0.5)
        self.now = 0.0
        self.owed: dict[str, float] = {}
        self.running: set[str] = set()

    @rule(key=KEYS)
    def wake(self, key: str) -> None:
        """Something changed."""
        ready = self.core.wake(key, self.now)
        self.owed.setdefault(key, self.now)
        assert ready <= self.owed[key] + PACE.most + SLACK

    @rule(seconds=st.floats(0.0, 3.0))
    def pass_time(self, seconds: float) -> None:
        """Time goes on."""
        self.now += seconds

    @rule(most=st.integers(1, 4))
    def take(self, most: int) -> None:
        """Workers take what is ready: never more than asked, never a key that runs."""
        taken = self.core.take(self.now, most)
        assert len(taken) <= most
        assert not self.running & set(taken)
        self.running |= set(taken)
        for key in taken:
            self.owed.pop(key, None)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), failed=st.booleans(), after=st.none() | st.floats(0.0, 5.0))
    def done(self, data: st.DataObject, failed: bool, after: float | None) -> None:
        """A run ends."""
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(key)
        self.core.done(key, Outcome(failed=failed, after=after), self.now)
        if failed or after is not None:
            later = self.core.next_ready()
            assert later is not None

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        """What was prepared for a key has become old before its turn: it waits again, and is ready."""
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(key)
        self.core.put_back(key)
        self.owed[key] = self.now
        ready = self.core.next_ready()
        assert ready is not None
        assert ready <= self.now + SLACK

    @invariant()
    def owes_every_wake_up(self) -> None:
        """A key that was woken since its last start waits, and becomes ready within the most once it does not run."""
        for key, since in self.owed.items():
            assert not self.core.is_idle(key)
            if key not in self.running:
                ready = self.core.next_ready()
                assert ready is not None
                assert ready <= max(since + PACE.most, self.now) + SLACK

    @invariant()
    def counts_what_runs(self) -> None:
        """The queue's own account of running keys is right."""
        assert self.core.running == len(self.running)


TestQueueMachine = QueueMachine.TestCase
