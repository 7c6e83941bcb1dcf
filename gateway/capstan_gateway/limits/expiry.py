"""What ends at a time that may be moved."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

_SPARE = 64


class Expiries:
    """Names with the time at which each is due. Bounded: at most about two entries are kept for each name."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._furthest = 0
        """None is due later."""

    def __len__(self) -> int:
        return len(self._times)

    def set(self, name: str, time: int) -> None:
        """Say when it is due, in place of what was said before."""
        if self._times.get(name) == time:
            return
        self._times[name] = time
        self._furthest = max(self._furthest, time)
        if len(self._heap) > 2 * len(self._times) + _SPARE:
            self._heap = [(time, name) for name, time in self._times.items()]
            heapify(self._heap)
        else:
            heappush(self._heap, (time, name))

    def drop(self, name: str) -> None:
        """Forget it."""
        self._times.pop(name, None)

    def pop_due(self, now: int, most: int) -> Iterator[str]:
        """Forget at most this many that are due, and give them: the earliest first, those of one time by name."""
        while most > 0 and self._heap and self._heap[0][0] <= now:
            time, name = heappop(self._heap)
            if self._times.get(name) == time:
                del self._times[name]
                most -= 1
                yield name

    def beyond(self, time: int, most: int) -> list[str]:
        """Give at most this many that are due later than this, the earliest first, those of one time by name."""
        if self._furthest <= time:
            return []
        later = sorted((due, name) for name, due in self._times.items() if due > time)
        self._furthest = later[-1][0] if later else time
        return [name for _, name in later[:most]]
