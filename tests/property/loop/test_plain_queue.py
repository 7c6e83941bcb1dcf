"""The queue with its heaps against one that looks at every key each time: both must do the same."""

import random
from dataclasses import dataclass, field

import pytest

from capstan_operator.backoff import Backoff
from capstan_operator.loop.queue_core import Outcome, Pace, QueueCore

PACE = Pace(lead=0.0625, quiet=0.25, most=2.0)
BACKOFF = Backoff(first=0.5, factor=2.0, most=8.0)
KEYS = [f"{group}{number}" for group in "abcd" for number in range(6)]


@dataclass
class Waiting:
    """A wake-up, merged with those that came after it."""

    first: float
    ready: float
    leading: bool = False


@dataclass
class PlainQueue:
    """The rules as the module says them, without any heap."""

    waiting: dict[str, Waiting] = field(default_factory=dict)
    woken: dict[str, Waiting] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    later: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    """What was ready at the last take, and stayed."""

    def wake(self, key: str, now: float) -> float:
        """Merge a wake-up with those that wait."""
        there = self.woken if key in self.running else self.waiting
        if key not in there:
            calm = key not in self.running and now - self.started.get(key, -1e9) >= PACE.most
            there[key] = Waiting(now, now + (PACE.lead if calm else PACE.quiet), calm)
            if key not in self.running:
                self.left.discard(key)
        elif not there[key].leading:
            there[key].ready = min(now + PACE.quiet, there[key].first + PACE.most)
        return there[key].ready

    def due(self, key: str) -> float | None:
        """When a key is ready that does not run."""
        return self.waiting[key].ready if key in self.waiting else self.later.get(key)

    def all_due(self) -> dict[str, float]:
        """When each key is ready that does not run."""
        return {key: due for key in KEYS if key not in self.running and (due := self.due(key)) is not None}

    def take(self, now: float, most: int | None, refused: set[str]) -> list[str]:
        """Take what is ready by since when it waits."""
        ready = {key: due for key, due in self.all_due().items() if due <= now}
        since = {key: self.waiting[key].first if key in self.waiting else due for key, due in ready.items()}
        taken: list[str] = []
        closed: set[str] = set()
        for key in sorted(since, key=lambda key: since[key]):
            if len(taken) == most:
                break
            if key[0] in closed or key in refused:
                closed.add(key[0])
                continue
            taken.append(key)
            self.waiting.pop(key, None)
            self.later.pop(key, None)
            self.running[key], self.started[key] = since[key], now
        self.left = ready.keys() - set(taken)
        return taken

    def put_back(self, key: str) -> None:
        """Undo a take."""
        since = self.running.pop(key)
        self.woken.pop(key, None)
        self.waiting[key] = Waiting(since, since)

    def done(self, key: str, outcome: Outcome, now: float) -> None:
        """End a run."""
        self.running.pop(key)
        if outcome.failed:
            self.failures[key] = self.failures.get(key, 0) + 1
            self.later[key] = now + max(BACKOFF.delay(self.failures[key], random=lambda: 1.0), outcome.after or 0.0)
        else:
            self.failures.pop(key, None)
            if outcome.after is not None:
                self.later[key] = now + max(outcome.after, PACE.lead)
        if key in self.woken:
            self.waiting[key] = self.woken.pop(key)


def check(core: QueueCore[str], plain: PlainQueue) -> None:
    """Both say the same of themselves."""
    due = plain.all_due()
    assert core.next_ready() == min(due.values(), default=None)
    coming = min((when for key, when in due.items() if key not in plain.left), default=None)
    told = core.next_to_come()
    # What was left and woken again since may be among those that come, or be found at the next take.
    assert told == coming or (told in {due[key] for key in plain.left} and (coming is None or told < coming))
    assert [core.is_idle(key) for key in KEYS] == [
        key not in plain.waiting and key not in plain.running for key in KEYS
    ]
    assert core.depth == len(plain.waiting) + len(plain.woken)
    assert (core.running, core.failing) == (len(plain.running), len(plain.failures))
    assert len(core._timed) <= 2 * len(KEYS) + 64 + 1


@pytest.mark.parametrize("seed", range(6))
def test_the_heaps_do_what_looking_at_every_key_would_do(seed: int) -> None:
    """For any order of wake-ups, takes with keys that are not admitted, ends, failures and puttings back."""
    rng = random.Random(seed)  # noqa: S311 - a test, and the same each time
    core: QueueCore[str] = QueueCore(PACE, rng=lambda: 1.0, backoff=BACKOFF, group_of=lambda key: key[0])
    plain, now = PlainQueue(), 0.0
    for _ in range(1500):
        now += rng.choice((0.001, 0.01, 0.1, 0.5)) * (1 + rng.random())
        what = rng.random()
        running = sorted(plain.running)
        if what < 0.45:
            key = rng.choice(KEYS)
            assert core.wake(key, now) == plain.wake(key, now)
        elif what < 0.65 or not running:
            most, refused = rng.choice((None, 1, 2, 5)), {key for key in KEYS if rng.random() < 0.2}
            taken = core.take(now, most, admits=lambda key, refused=refused: key not in refused)  # type: ignore[misc]
            assert taken == plain.take(now, most, refused)
        elif what < 0.72:
            key = rng.choice(running)
            core.put_back(key)
            plain.put_back(key)
        else:
            key = rng.choice(running)
            outcome = Outcome(failed=rng.random() < 0.3, after=rng.choice((None, None, 0.0, 1.0, 7.0)))
            core.done(key, outcome, now)
            plain.done(key, outcome, now)
        check(core, plain)
