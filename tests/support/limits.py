"""What tests of the limiter share: a clock that is set by hand, and what was admitted in any time."""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from capstan_gateway.limits.port import Bucket, Charge, Rule

T = TypeVar("T")
START_MS = 1_796_000_000_000


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Give the result of what never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waited")


def charge(rule: Rule, amount: int = 1, *, key: str = "a", group: str = "policy") -> Charge:
    """Make a charge."""
    return Charge(Bucket(group, key, rule), amount)


@dataclass
class Clock:
    """Says what it is told to, and how far it has gone forward in all."""

    now: int = START_MS
    forward: int = 0

    def __call__(self) -> int:
        return self.now

    def step(self, millis: int) -> None:
        """Go forward, or back."""
        self.now += millis
        self.forward += max(millis, 0)


@dataclass
class Part:
    """What was taken in one operation."""

    time: int
    amount: int
    used: int


@dataclass
class Ledger:
    """What reservations have of one bucket, taken part by part: what is used is used of the first part first."""

    parts: dict[str, list[Part]] = field(default_factory=dict)

    def take(self, id: str, time: int, total: int) -> None:
        """So much was admitted in all: anything of it may be used until more is known."""
        have = sum(part.amount for part in self.parts.get(id, []))
        if total > have:
            self.parts.setdefault(id, []).append(Part(time, total - have, total - have))

    def end(self, id: str, used: int) -> None:
        """So much was used in the end."""
        for part in self.parts.get(id, []):
            part.used = min(part.amount, used)
            used -= part.used

    def most_since(self) -> list[tuple[int, int]]:
        """Give for each time since which something was taken how much has been used since then."""
        parts = sorted((part for parts in self.parts.values() for part in parts), key=lambda part: part.time)
        sums = []
        used = 0
        for part in reversed(parts):
            used += part.used
            sums.append((part.time, used))
        return sums
