"""Entries in the memory of the process: bounded by bytes and by number, the least recently used go first.

Least recently used, and no cleverer policy, for a reason: an entry costs a model's answer, not a read from a disk, and
what is asked again is asked again soon (80% of all reuse of prefixes in chats is within ten minutes: arXiv 2506.02634).
One-hit wonders, for which W-TinyLFU and S3-FIFO are better, push out little within the life of an entry; and no kept
library of those bounds by bytes without a thread of its own.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from capstan_gateway.caches.port import CacheKey, Entry


class Account(Protocol):
    """Who grants the bytes that entries take; `lending.CacheBytes` is one."""

    def take(self, size: int) -> bool:
        """Take so many more; False where there is no room for them, whatever is given back."""
        ...

    def give_back(self, size: int) -> None:
        """Give so many back."""
        ...


class Unbounded:
    """Implements `Account` where only the bounds of the policy hold."""

    def take(self, size: int) -> bool:  # noqa: ARG002 - of the port
        """Take them."""
        return True

    def give_back(self, size: int) -> None:
        """Nobody counts."""


def _nothing_purged(_key: CacheKey, _created_ms: int) -> bool:
    return False


class MemoryEntries:
    """Not safe for threads: everything is for the loop's thread, and takes microseconds."""

    def __init__(
        self,
        *,
        max_bytes: int,
        max_entries: int,
        now_ms: Callable[[], int],
        account: Account | None = None,
        purged: Callable[[CacheKey, int], bool] = _nothing_purged,
    ) -> None:
        """Make it. `purged` says whether an entry of this key that was made then is not to be kept."""
        self.max_bytes: Final = max_bytes
        self._max_entries: Final = max_entries
        self._now_ms: Final = now_ms
        self._account: Final[Account] = account or Unbounded()
        self._purged: Final = purged
        self._entries: OrderedDict[CacheKey, Entry] = OrderedDict()
        self._bytes = 0
        self._closed = False
        self.evicted = 0
        """Entries that went because others came, or because requests needed their room."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """How many bytes its entries are counted as."""
        return self._bytes

    def get(self, key: CacheKey) -> Entry | None:
        """Give an entry that has not expired; that makes it the most recently used, and prolongs nothing."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_ms <= self._now_ms():
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def peek(self, key: CacheKey) -> Entry | None:
        """Give an entry to who only looks: it is not the most recently used for that."""
        entry = self._entries.get(key)
        return None if entry is None or entry.expires_ms <= self._now_ms() else entry

    def put(self, key: CacheKey, entry: Entry) -> bool:
        """Keep an entry in place of what was there; False for one that has no room, or is purged."""
        self.drop(key)
        size = entry.size
        if self._closed or size > self.max_bytes or self._purged(key, entry.created_ms):
            return False
        while self._bytes + size > self.max_bytes or len(self._entries) >= self._max_entries:
            self._evict()
        if not self._account.take(size):
            return False
        self._entries[key] = entry
        self._bytes += size
        return True

    def evict(self, size: int) -> None:
        """Have so many bytes, or more, be free: the least recently used go."""
        least = max(self._bytes - size, 0)
        while self._bytes > least:
            self._evict()

    def drop(self, key: CacheKey) -> bool:
        """Forget an entry; False when there is none."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self._freed(entry.size)
        return True

    def drop_where(self, covered: Callable[[CacheKey, Entry], bool]) -> int:
        """Forget all entries of which this is true; give how many those were."""
        gone = [key for key, entry in self._entries.items() if covered(key, entry)]
        for key in gone:
            self.drop(key)
        return len(gone)

    def close(self) -> None:
        """Forget all entries, and keep none any more: the policy is gone, or is another one now."""
        self._closed = True
        self.drop_where(lambda _key, _entry: True)

    def _evict(self) -> None:
        _, oldest = self._entries.popitem(last=False)
        self.evicted += 1
        self._freed(oldest.size)

    def _freed(self, size: int) -> None:
        self._bytes -= size
        self._account.give_back(size)
