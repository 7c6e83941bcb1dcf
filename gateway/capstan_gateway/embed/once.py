"""A value that is made when it is first asked for, once."""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Makes a value in the thread that first wants it; others wait for that, and all have the same.

    Weights take tenths of a second to load. A policy is compiled on the event loop, its dear detectors are asked beside
    it: this puts the one into the other. Where making it raises, so does asking, and who asks next tries again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: list[T] = []

    def get(self) -> T:
        """Give the value. Raises what making it raises."""
        if not self._made:
            with self._lock:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]
