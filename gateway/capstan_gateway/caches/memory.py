"""Entries in the memory of the process: bounded by bytes and by number, the least recently used go first.

Least recently used, and no cleverer policy, for a reason: an entry costs a model's answer, not a read from a disk, and
what is asked again is asked again soon (80% of all reuse of prefixes in chats is within ten minutes: arXiv 2506.02634).
One-hit wonders, for which W-TinyLFU and S3-FIFO are better, push out little within the life of an entry; and no kept
library of those bounds by bytes without a thread of its own.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from capstan_gateway.caches.port import CacheKey, Entry


class MemoryEntries:
    """Not safe for threads: everything is for the loop's thread, and takes microseconds."""

    def __init__(self, *, max_bytes: int, max_entries: int, now_ms: Callable[[], int]) -> None:
        self._max_bytes: Final = max_bytes
        self._max_entries: Final = max_entries
        self._now_ms: Final = now_ms
        self._entries: OrderedDict[CacheKey, Entry] = OrderedDict()
        self._bytes = 0
        self.evicted = 0
        """Entries that went because others came."""

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

    def put(self, key: CacheKey, entry: Entry) -> bool:
        """Keep an entry in place of what was there; False for one that is larger than everything together may be."""
        self.drop(key)
        size = entry.size
        if size > self._max_bytes:
            return False
        self._entries[key] = entry
        self._bytes += size
        while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.size
            self.evicted += 1
        return True

    def drop(self, key: CacheKey) -> bool:
        """Forget an entry; False when there is none."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self._bytes -= entry.size
        return True

    def drop_where(self, covered: Callable[[CacheKey, Entry], bool]) -> int:
        """Forget all entries of which this is true; give how many those were."""
        gone = [key for key, entry in self._entries.items() if covered(key, entry)]
        for key in gone:
            self.drop(key)
        return len(gone)
