"""Posts what engines give, of all answers together, and holds engines up whose readers are slow."""

import asyncio
from collections.abc import Callable, Iterable

from capstan_contract.queue.calls import Queue, read_posted
from capstan_worker.errors import QueueAway
from capstan_worker.queue.link import Link
from capstan_worker.queue.outbox import Outbox, Settled
from capstan_worker.queue.pauses import Pause


class Poster:
    """One post at a time: what comes in meanwhile goes with the next one."""

    def __init__(
        self, link: Link, calls: Queue, worker: str, outbox: Outbox, *, settled: Callable[[Settled], None]
    ) -> None:
        """`settled` hears what became of each post."""
        self._link = link
        self._calls = calls
        self._worker = worker
        self._outbox = outbox
        self._settled = settled
        self._more = asyncio.Event()
        self._moved = asyncio.Event()
        self._pause = Pause(0.05, 2.0)

    def wake(self) -> None:
        """Something is to be said."""
        self._more.set()

    async def put(self, entry_id: str, data: bytes) -> None:
        """Add to an answer, and wait as long as too much of it is held."""
        self._outbox.put(entry_id, data)
        self._more.set()
        while self._outbox.crowded(entry_id):
            await self._moved.wait()

    def release(self, ids: Iterable[str]) -> None:
        """Readers of these take more."""
        for entry_id in ids:
            self._outbox.go_on(entry_id)
        self._more.set()

    async def step(self) -> None:
        """Post once, as soon as there is something."""
        await self._more.wait()
        self._more.clear()
        # What other answers give in this turn of the loop goes along.
        await asyncio.sleep(0)
        await self.flush()

    async def flush(self) -> None:
        """Post what there is now. Raises QueueAway, after which the same is posted again."""
        posts = self._outbox.next()
        if not posts:
            return
        try:
            words = read_posted(await self._link.run(self._calls.post(self._worker, posts)))
        except (QueueAway, asyncio.CancelledError):
            self._outbox.again(posts)
            self._more.set()
            raise
        settled = self._outbox.settle(posts, words, asyncio.get_running_loop().time())
        if self._outbox.pending:
            self._more.set()
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        self._settled(settled)

    def dropped(self) -> None:
        """Answers were dropped: whoever waits for room looks again."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
