"""Which blocks an engine holds, by their names, and what each reader has not been told of it yet.

What has changed is kept per reader as the difference between what it knows and what is there: a block that was stored
and removed between two lines is nothing, so that a reader that is slow, or stands still, never holds more than what
is there.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from capstan_contract.kv_events import MOST_BLOCKS, Change

MOST_READERS: Final = 32
"""Gateways that listen at once, those of a rolling update together: each holds a connection, and a difference of its
own, which one that reads keeps small; the largest, of one that does not, takes tens of megabytes until it is let go."""
DEFAULT_BLOCK_TOKENS: Final = 16
"""vLLM's. Said until the engine's first event says another."""


class TooManyReaders(Exception):
    """So many listen already that one more would not be served."""


class Reader:
    """What one reader knows. Not for two tasks."""

    def __init__(self, names: Iterable[int], block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self.snapshot: tuple[int, ...] = tuple(names)
        """What is there when it begins. To be told first, and let go of then."""
        self.changed = asyncio.Event()
        """Set while there is something to tell, or nothing more is to come."""
        self.ended = False
        """Whether nothing more is to come: the worker ends, or blocks have another size now."""
        self._stored: dict[int, None] = {}
        self._removed: dict[int, None] = {}
        self._cleared = False

    @property
    def pending(self) -> int:
        """How many names it has not been told of."""
        return len(self._stored) + len(self._removed)

    def take(self) -> Change:
        """Give what has changed since the last time, and begin anew."""
        change = Change(tuple(self._stored), tuple(self._removed), self._cleared)
        self._stored, self._removed, self._cleared = {}, {}, False
        if not self.ended:
            self.changed.clear()
        return change

    def store(self, name: int) -> None:
        """A block is there that was not."""
        if name in self._removed:
            del self._removed[name]
        else:
            self._stored[name] = None
        self.changed.set()

    def remove(self, name: int, there: Mapping[int, None]) -> None:
        """A block is gone that was there; `there` are those that are left."""
        if name in self._stored:
            del self._stored[name]
        else:
            self._removed[name] = None
            if len(self._removed) > len(there):
                # More is to be said of what is gone than of what is there, which then says it all.
                self._stored, self._removed, self._cleared = dict(there), {}, True
        self.changed.set()

    def clear(self) -> None:
        """All blocks are gone."""
        self._stored, self._removed, self._cleared = {}, {}, True
        self.changed.set()

    def end(self) -> None:
        """Nothing more is to come."""
        self.ended = True
        self.changed.set()


class HeldBlocks:
    """The blocks of one engine, the newest so many of them. To be used on one event loop only."""

    def __init__(self, *, block_tokens: int = DEFAULT_BLOCK_TOKENS, most: int = MOST_BLOCKS) -> None:
        self.block_tokens = block_tokens
        self._most = most
        # NB: of a plain dictionary each look at the first one passes all that have gone: half a second for a batch.
        self._names: OrderedDict[int, None] = OrderedDict()
        """In the order in which they were stored."""
        self._readers: set[Reader] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: int) -> bool:
        return name in self._names

    @property
    def readers(self) -> int:
        """How many listen."""
        return len(self._readers)

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Give a reader, which is told of every change from now on. Raises TooManyReaders."""
        if len(self._readers) >= MOST_READERS:
            raise TooManyReaders
        reader = Reader(self._names, self.block_tokens)
        if self._closed:
            reader.end()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def store(self, names: Iterable[int]) -> None:
        """Blocks are there now. Those that were there before are the newest again; the oldest go for lack of room."""
        for name in names:
            if name in self._names:
                self._names.move_to_end(name)
                continue
            self._names[name] = None
            for reader in self._readers:
                reader.store(name)
            if len(self._names) > self._most:
                self._drop(next(iter(self._names)))

    def remove(self, names: Iterable[int]) -> None:
        """Blocks are gone. Those that were not there are left alone."""
        for name in names:
            if name in self._names:
                self._drop(name)

    def clear(self) -> None:
        """All blocks are gone."""
        if self._names:
            self._names.clear()
            for reader in self._readers:
                reader.clear()

    def resize(self, block_tokens: int) -> None:
        """Blocks have this many tokens from now on: of another size none is there, and who listens has to ask anew."""
        if block_tokens != self.block_tokens:
            self._names.clear()
            self.block_tokens = block_tokens
            for reader in self._readers:
                reader.end()

    def close(self) -> None:
        """End what is told: the worker ends."""
        self._closed = True
        for reader in self._readers:
            reader.end()

    def _drop(self, name: int) -> None:
        del self._names[name]
        for reader in self._readers:
            reader.remove(name, self._names)
