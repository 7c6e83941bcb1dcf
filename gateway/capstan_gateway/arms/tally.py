"""What one arm did: the counters of `capstan_contract.tracks`, as a process adds to them.

An arm takes at most some 35 kB, whatever it counts: two numbers for each bucket of users and measure, and for times a
histogram.
"""

from array import array
from collections.abc import Iterator
from typing import Final

from capstan_contract.tracks import BUCKETS, CELLS, TIMED, Counters, Measure, Quantity, cell_of

_MOST: Final = (1 << 40) - 1
"""Of one value: 12 days in microseconds, or a thousand dollars. What is more counts as so much, and a sum of millions
of them fits into its 64 bits."""


class _Sums:
    """One quantity."""

    __slots__ = ("_cells", "_counts", "_squares", "_sums")

    def __init__(self, *, timed: bool) -> None:
        self._counts = array("q", bytes(8 * BUCKETS))
        self._sums = array("q", bytes(8 * BUCKETS))
        self._cells = array("q", bytes(8 * CELLS)) if timed else None
        self._squares = 0

    def add(self, bucket: int, value: int) -> None:
        value = min(max(value, 0), _MOST)
        self._counts[bucket] += 1
        self._sums[bucket] += value
        self._squares += value * value
        if self._cells is not None:
            self._cells[cell_of(value)] += 1

    def replace(self, bucket: int, before: int, value: int) -> None:
        """Have a value be another one. Of what has no histogram."""
        self._sums[bucket] += value - before
        self._squares += value * value - before * before

    def measure(self) -> Measure:
        return Measure(
            count=sum(self._counts), sum=sum(self._sums), squares=self._squares,
            cells=tuple(_some(self._cells)) if self._cells is not None else (),
            buckets=tuple((bucket, count, self._sums[bucket]) for bucket, count in _some(self._counts)),
        )  # fmt: skip


def _some(numbers: "array[int]") -> Iterator[tuple[int, int]]:
    return ((place, number) for place, number in enumerate(numbers) if number)


class Tally:
    """One arm. Only the loop's thread touches it."""

    __slots__ = ("_measures",)

    def __init__(self) -> None:
        self._measures: dict[Quantity, _Sums] = {}

    def add(self, quantity: Quantity, bucket: int, value: int) -> None:
        """Take a value of a user of this bucket; what is below 0 counts as 0."""
        sums = self._measures.get(quantity)
        if sums is None:
            sums = self._measures[quantity] = _Sums(timed=quantity in TIMED)
        sums.add(bucket, value)

    def replace(self, quantity: Quantity, bucket: int, before: int, value: int) -> None:
        """Have a value that was added be another one: whoever said it has changed their mind."""
        if quantity in TIMED:
            raise ValueError(f"{quantity} has a histogram, from which nothing is taken")
        self._measures[quantity].replace(bucket, before, value)

    def counters(self) -> Counters:
        """Say what was counted so far."""
        return Counters(measures={one: self._measures[one].measure() for one in Quantity if one in self._measures})
