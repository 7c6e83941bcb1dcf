"""Vectors of questions, apart by partition: nothing is found across them. Bounded over all of them together, by number
and by bytes: a vector of a model may have ten times the numbers of one that the process makes itself.

A partition of up to `SMALL` questions is compared with all of them, which is exact and takes some 0.2 ms; a larger one
has a graph (HNSW, by usearch), which finds its neighbours in less than that among 100,000.
"""

from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from capstan_gateway.caches.port import CacheKey

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

DIMENSIONS: Final = 384
"""Of the vectors that the process makes itself."""
SMALL: Final = 2000
"""Questions of a partition up to which all are compared."""
MOST_BYTES_EACH: Final = 4096
"""Of memory for each question that there may be, all together: one of 384 numbers takes less, wherever it is."""
_OWN_BYTES: Final = 950
"""What a question takes beside its vector and its text. Measured, as the next two."""
_SHELF_BYTES: Final = 900
"""What a partition takes beside its questions."""
_LINKS_BYTES: Final = 400
"""What a graph takes for each vector beside its numbers."""
_GROWS: Final = 4
"""By one part in so many a matrix grows: a policy on conversations has about as many partitions as questions."""


class Asked(NamedTuple):
    """A question that there is an answer to."""

    key: CacheKey
    """Of the answer."""
    text: str
    expires_ms: int


class Near(NamedTuple):
    """A question, and how near it is."""

    similarity: float
    asked: Asked


class _Shelf(Protocol):
    row_bytes: int
    """What one vector takes."""

    def put(self, asked: Asked, vector: "NDArray[numpy.float32]") -> None: ...
    def drop(self, key: CacheKey) -> Asked: ...
    def until(self, key: CacheKey) -> int: ...
    def nearest(self, vector: "NDArray[numpy.float32]", count: int) -> list[Near]: ...
    def __len__(self) -> int: ...


class Neighbours:
    """The questions of one policy; vectors of one partition are of one length. Asked from any thread."""

    def __init__(self, *, most: int) -> None:
        """Make it, for so many questions: of more, or of more than `MOST_BYTES_EACH` for each of these, the least
        recently found or put go first."""
        self._most: Final = most
        self._most_bytes: Final = most * MOST_BYTES_EACH
        self._bytes = 0
        self._shelves: dict[str, _Shelf] = {}
        self._recent: OrderedDict[CacheKey, str] = OrderedDict()
        """Each with its partition: whoever asks for the answer of this key asks within that one."""
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._recent)

    @property
    def bytes(self) -> int:
        """How many its questions are counted as."""
        return self._bytes

    def put(self, partition: str, asked: Asked, vector: "NDArray[numpy.float32]") -> None:
        """Have a question found from now on; one with the same key is in its place from now on."""
        with self._lock:
            shelf = self._shelves.get(partition)
            grows = isinstance(shelf, _Few) and len(shelf) >= SMALL
        if grows:
            self._grow(partition)
        with self._lock:
            self._drop(asked.key)
            shelf = self._shelves.get(partition)
            if shelf is None:
                shelf = self._shelves[partition] = _Few(len(vector))
                self._bytes += _SHELF_BYTES
            shelf.put(asked, vector)
            self._recent[asked.key] = partition
            self._bytes += _size_of(asked, shelf)
            while len(self._recent) > self._most or (self._bytes > self._most_bytes and len(self._recent) > 1):
                self._drop(next(iter(self._recent)))

    def nearest(self, partition: str, vector: "NDArray[numpy.float32]", *, count: int, now_ms: int) -> list[Near]:
        """Give the nearest ones that have not expired, the nearest first."""
        with self._lock:
            shelf = self._shelves.get(partition)
            if shelf is None:
                return []
            found = shelf.nearest(vector, count)
            for near in found:
                if near.asked.expires_ms <= now_ms:
                    self._drop(near.asked.key)
            return [near for near in found if near.asked.expires_ms > now_ms]

    def used(self, key: CacheKey) -> None:
        """Make it one of the last to go."""
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)

    def until(self, key: CacheKey) -> int:
        """Give until when there is an answer to one, as far as is known; 0 when it is not there."""
        with self._lock:
            partition = self._recent.get(key)
            return 0 if partition is None else self._shelves[partition].until(key)

    def drop(self, key: CacheKey) -> bool:
        """Forget one; False when it is not there."""
        with self._lock:
            return self._drop(key)

    def keys(self) -> list[CacheKey]:
        """Give those of all questions that are there now: a millisecond for 100,000."""
        with self._lock:
            return list(self._recent)

    def _drop(self, key: CacheKey) -> bool:
        partition = self._recent.pop(key, None)
        if partition is None:
            return False
        shelf = self._shelves[partition]
        self._bytes -= _size_of(shelf.drop(key), shelf)
        if not len(shelf):
            del self._shelves[partition]
            self._bytes -= _SHELF_BYTES
        return True

    def _grow(self, partition: str) -> None:
        """Make a graph of a partition. That takes most of a second, in which nobody is to wait for the lock: it is made
        of what was there, and what has changed meanwhile is done to it then."""
        with self._lock:
            few = self._shelves.get(partition)
            if not isinstance(few, _Few):
                return
            before = few.copy()
        many = before.as_many()
        with self._lock:
            few = self._shelves.get(partition)
            if not isinstance(few, _Few):
                return
            now = dict(few.each())
            for asked in before.asked:
                if asked not in now:
                    many.drop(asked.key)
            there = set(before.asked)
            for asked, row in now.items():
                if asked not in there:
                    many.put(asked, row)
            self._shelves[partition] = many
            self._bytes += len(many) * (many.row_bytes - few.row_bytes)


def _size_of(asked: Asked, shelf: _Shelf) -> int:
    """Give what a question takes there."""
    text = len(asked.text) * (1 if asked.text.isascii() else 4)
    return text + shelf.row_bytes + _OWN_BYTES


class _Few:
    """All of them in one matrix, without gaps; little of it is empty."""

    def __init__(self, dimensions: int) -> None:
        import numpy

        self._rows = numpy.empty((1, dimensions), numpy.float32)
        self.row_bytes = 4 * dimensions
        self.asked: list[Asked] = []
        self._at: dict[CacheKey, int] = {}

    def __len__(self) -> int:
        return len(self.asked)

    def put(self, asked: Asked, vector: "NDArray[numpy.float32]") -> None:
        count = len(self.asked)
        if count == len(self._rows):
            self._resize(count + count // _GROWS + 1)
        self._rows[count] = vector
        self.asked.append(asked)
        self._at[asked.key] = count

    def drop(self, key: CacheKey) -> Asked:
        at, last = self._at.pop(key), len(self.asked) - 1
        asked, moved = self.asked[at], self.asked.pop()
        if at != last:
            self._rows[at], self.asked[at] = self._rows[last], moved
            self._at[moved.key] = at
        if 2 * last < len(self._rows):
            self._resize(last + last // _GROWS)
        return asked

    def _resize(self, count: int) -> None:
        import numpy

        rows = numpy.empty((count, self._rows.shape[1]), numpy.float32)
        both = min(count, len(self._rows))
        rows[:both] = self._rows[:both]
        self._rows = rows

    def until(self, key: CacheKey) -> int:
        return self.asked[self._at[key]].expires_ms

    def nearest(self, vector: "NDArray[numpy.float32]", count: int) -> list[Near]:
        near = self._rows[: len(self.asked)] @ vector
        best = near.argsort()[::-1][:count] if len(near) <= count else _largest(near, count)
        return [Near(min(float(near[at]), 1.0), self.asked[at]) for at in best]

    def copy(self) -> "_Few":
        few = _Few(self._rows.shape[1])
        few._rows, few.asked, few._at = self._rows[: len(self.asked)].copy(), self.asked.copy(), self._at.copy()
        return few

    def each(self) -> Iterator[tuple[Asked, "NDArray[numpy.float32]"]]:
        return zip(self.asked, self._rows, strict=False)

    def as_many(self) -> "_Many":
        many = _Many(self._rows.shape[1])
        for asked, row in self.each():
            many.put(asked, row)
        return many


def _largest(near: "NDArray[numpy.float32]", count: int) -> "NDArray[numpy.intp]":
    import numpy

    best = numpy.argpartition(near, -count)[-count:]
    return best[near[best].argsort()[::-1]]


class _Many:
    """A graph, in which some neighbours of a thousand are missed."""

    def __init__(self, dimensions: int) -> None:
        from usearch.index import Index

        self._graph: Any = Index(ndim=dimensions, metric="cos", dtype="f16")
        self.row_bytes = 2 * dimensions + _LINKS_BYTES
        self._asked: dict[int, Asked] = {}
        self._at: dict[CacheKey, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._asked)

    def put(self, asked: Asked, vector: "NDArray[numpy.float32]") -> None:
        self._graph.add(self._next, vector, threads=1)
        self._asked[self._next] = asked
        self._at[asked.key] = self._next
        self._next += 1

    def drop(self, key: CacheKey) -> Asked:
        at = self._at.pop(key)
        self._graph.remove(at)
        return self._asked.pop(at)

    def until(self, key: CacheKey) -> int:
        return self._asked[self._at[key]].expires_ms

    def nearest(self, vector: "NDArray[numpy.float32]", count: int) -> list[Near]:
        found = self._graph.search(vector, count, threads=1)
        pairs = zip(found.keys, found.distances, strict=True)
        return [Near(min(1.0 - float(far), 1.0), self._asked[int(at)]) for at, far in pairs if int(at) in self._asked]
