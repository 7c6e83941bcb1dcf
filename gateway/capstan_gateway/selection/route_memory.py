"""What routing remembers between requests: whose turn it is, and how fast models begin to answer.

It outlives configs, is keyed by ids of models, and forgets models that are gone. Another replica of the gateway
remembers for itself: shares are exact in each of them, and so over all of them.
"""

from collections.abc import Iterable, Sequence
from typing import Final

EXPLORE_EVERY: Final = 10
"""Every so many requests the fastest strategy asks the model whose speed was looked at longest ago."""
NEWEST_SHARE: Final = 0.2
"""How much the newest sample counts in the average."""


class RouteMemory:
    """Only the loop's thread touches it."""

    def __init__(self) -> None:
        self._currents: dict[str, dict[str, int]] = {}
        self._decisions: dict[str, int] = {}
        self._speeds: dict[tuple[str, bool], float] = {}
        self._looked_at: dict[tuple[str, bool], int] = {}
        self._clock = 0

    def next_turn(self, route: str, shares: Sequence[tuple[str, int]]) -> str:
        """The member whose turn it is: over `sum of weights` requests each gets exactly its weight.

        Smooth weighted round robin: what is due to a member grows by its weight with each request, and the one that is
        served pays with the sum of all weights. Members that are left out this time keep what is due to them.
        """
        currents = self._currents.setdefault(route, {})
        total = sum(weight for _, weight in shares)
        best, most = "", 0
        for name, weight in sorted(shares):
            due = currents[name] = currents.get(name, 0) + weight
            if not best or due > most:
                best, most = name, due
        currents[best] -= total
        return best

    def explores(self, route: str) -> bool:
        """Count a request of the fastest strategy; say whether it is one to look at other models with."""
        count = self._decisions[route] = self._decisions.get(route, 0) + 1
        return count % EXPLORE_EVERY == 0

    def observe(self, model: str, seconds: float, *, stream: bool) -> None:
        """Take the time to the first byte of an answer. Streams and whole answers are kept apart."""
        key = (model, stream)
        before = self._speeds.get(key)
        self._speeds[key] = seconds if before is None else before + NEWEST_SHARE * (seconds - before)
        self.look(model, stream=stream)

    def look(self, model: str, *, stream: bool) -> None:
        """Take note that a model was asked, whatever came of it."""
        self._clock += 1
        self._looked_at[model, stream] = self._clock

    def speed(self, model: str, *, stream: bool) -> float | None:
        """The average time to the first byte; None when it was never measured."""
        return self._speeds.get((model, stream))

    def looked_at(self, model: str, *, stream: bool) -> int:
        """A number that is larger the later the model was asked; 0 when it never was."""
        return self._looked_at.get((model, stream), 0)

    def retain(self, models: Iterable[str]) -> None:
        """Forget every other model."""
        kept = frozenset(models)
        self._decisions = {route: count for route, count in self._decisions.items() if route in kept}
        self._currents = {
            route: {name: due for name, due in currents.items() if name in kept}
            for route, currents in self._currents.items()
            if route in kept
        }
        self._speeds = {key: value for key, value in self._speeds.items() if key[0] in kept}
        self._looked_at = {key: value for key, value in self._looked_at.items() if key[0] in kept}
