"""Requests that are collected until one call can ask for several of them. Pure."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Open(Generic[T]):
    since: float
    items: list[T] = field(default_factory=list)
    size: int = 0


class BatchCollector(Generic[T]):
    """Collects what can go together, up to a size, and for no longer than some time. Times are of one clock."""

    def __init__(self, size: int, seconds: float) -> None:
        self._size = size
        self._seconds = seconds
        self._open: dict[Hashable, _Open[T]] = {}

    def __len__(self) -> int:
        return sum(len(batch.items) for batch in self._open.values())

    def add(self, kind: Hashable, item: T, size: int, now: float) -> list[list[T]]:
        """Take one in that is so large; give the batches that are to go now. One that is too large goes alone."""
        if size >= self._size:
            return [[item]]
        gone = []
        batch = self._open.get(kind)
        if batch is not None and batch.size + size > self._size:
            gone.append(self._open.pop(kind).items)
            batch = None
        if batch is None:
            batch = self._open[kind] = _Open(now)
        batch.items.append(item)
        batch.size += size
        if batch.size == self._size:
            gone.append(self._open.pop(kind).items)
        return gone

    def due(self, now: float) -> list[list[T]]:
        """Give the batches whose time is over."""
        over = [kind for kind, batch in self._open.items() if batch.since + self._seconds <= now]
        return [self._open.pop(kind).items for kind in over]

    def next_due(self) -> float | None:
        """Give when the next batch's time is over; None when there is none."""
        return min((batch.since + self._seconds for batch in self._open.values()), default=None)

    def drop(self, item: T) -> bool:
        """Take one out that nobody wants any more; say whether it was there."""
        for kind, batch in self._open.items():
            if item in batch.items:
                batch.items.remove(item)
                # NB: its size stays counted: the batch goes a little earlier than it might.
                if not batch.items:
                    del self._open[kind]
                return True
        return False
