"""When which Secret is looked at. Pure: every method gets the time.

Secrets are not watched, because that would need the right to list them all. Each is read again every minute, spread
over it, and the rate is bounded: of very many each is read less often. One that nobody has read yet, and that a model
waits for, goes first and has places of its own, so that Secrets that do not answer keep nobody else waiting.
"""

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

SecretName = tuple[str, str]
"""(namespace, name)."""


class Seen(Enum):
    """What a look at a Secret has come to."""

    FOUND = auto()
    ABSENT = auto()
    """Missing, or forbidden."""
    FAILED = auto()
    """The API server could not say."""


@dataclass(frozen=True)
class Polling:
    """Seconds between two looks, and bounds."""

    found: float = 60.0
    absent: float = 10.0
    failed: float = 10.0
    """After the first failure; twice as long after each further one."""
    failed_most: float = 300.0
    per_second: float = 20.0
    """Most looks in a second at Secrets that were read before."""
    at_once: int = 4
    """Most of these looks under way."""
    first_per_second: float = 100.0
    """Most first looks in a second."""
    first_at_once: int = 8
    """Most first looks under way."""


DEFAULT_POLLING: Final = Polling()


@dataclass
class _Entry:
    due: float
    first: bool
    failures: int = 0


class SecretPolls:
    """The schedule."""

    def __init__(self, *, rng: Callable[[], float], polling: Polling = DEFAULT_POLLING) -> None:
        self._random = rng
        self._polling = polling
        self._entries: dict[SecretName, _Entry] = {}
        self._under_way: dict[SecretName, bool] = {}
        """Looks that have not ended, by whether each is a first one; also at Secrets that nobody wants any more."""
        self._queues: dict[bool, list[tuple[float, SecretName]]] = {True: [], False: []}
        """By the same; one is stale when the entry says another time."""
        self._not_before = {True: 0.0, False: 0.0}

    def want(self, secrets: Iterable[SecretName], urgent: Iterable[SecretName], now: float) -> None:
        """Look at these from now on, and at no others; at the urgent ones at once."""
        wanted, at_once = set(secrets), set(urgent)
        for secret in self._entries.keys() - wanted:
            del self._entries[secret]
        for secret in sorted(wanted - self._entries.keys()):
            first = secret in at_once
            delay = 0.0 if first else self._random() * self._interval(self._polling.found, len(wanted))
            self._put(secret, _Entry(now + delay, first))
        for secret in sorted(at_once & wanted):
            entry = self._entries[secret]
            if entry.due > now and not entry.first and not entry.failures:
                self._put(secret, _Entry(now, first=True))

    def take(self, now: float) -> SecretName | None:
        """Give a Secret to look at now; it is then under way until `done`."""
        for first, most, rate in (
            (True, self._polling.first_at_once, self._polling.first_per_second),
            (False, self._polling.at_once, self._polling.per_second),
        ):
            is_full = sum(one is first for one in self._under_way.values()) >= most
            due, secret = self._head(first)
            if not is_full and secret is not None and due <= now and now >= self._not_before[first]:
                heapq.heappop(self._queues[first])
                self._not_before[first] = now + 1 / rate
                self._under_way[secret] = first
                return secret
        return None

    def done(self, secret: SecretName, seen: Seen, now: float) -> None:
        """A look has come to this."""
        self._under_way.pop(secret, None)
        entry = self._entries.get(secret)
        if entry is None:
            return
        failures = entry.failures + 1 if seen is Seen.FAILED else 0
        if seen is Seen.FAILED:
            base = min(self._polling.failed * 2 ** min(failures - 1, 10), self._polling.failed_most)
        else:
            base = self._polling.found if seen is Seen.FOUND else self._polling.absent
        due = now + self._interval(base, len(self._entries)) * (0.9 + 0.2 * self._random())
        self._put(secret, _Entry(due, first=False, failures=failures))

    def next_look(self, now: float) -> float | None:
        """When `take` may have something to give; None when nothing is to come before a look ends."""
        due = min(self._head(True)[0], self._head(False)[0])
        if due == math.inf:
            return None
        return max(due, now + 1 / self._polling.first_per_second)

    def _head(self, first: bool) -> tuple[float, SecretName | None]:
        """Give what is due next, and when."""
        queue = self._queues[first]
        while queue:
            due, secret = queue[0]
            entry = self._entries.get(secret)
            if entry and (entry.due, entry.first) == (due, first) and secret not in self._under_way:
                return due, secret
            heapq.heappop(queue)
        return math.inf, None

    def _put(self, secret: SecretName, entry: _Entry) -> None:
        self._entries[secret] = entry
        heapq.heappush(self._queues[entry.first], (entry.due, secret))

    def _interval(self, seconds: float, secrets: int) -> float:
        return max(seconds, secrets / self._polling.per_second)
