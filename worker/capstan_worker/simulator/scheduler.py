"""Who runs and who waits: a batch with a fixed number of places, and a first-come-first-served queue before it.

Like vLLM, nothing is ever refused for being too much: it waits. The head of the queue waits for a place and for KV
blocks, and nobody overtakes it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from capstan_worker.simulator.blocks import BlockCache, Lease


class Ticket:
    """One request in the scheduler."""

    __slots__ = ("hashes", "lease", "prompt_tokens", "total_blocks", "turn")

    def __init__(self, hashes: Sequence[int], prompt_tokens: int, total_blocks: int) -> None:
        self.hashes = hashes
        self.prompt_tokens = prompt_tokens
        self.total_blocks = total_blocks
        self.lease: Lease | None = None
        self.turn: asyncio.Future[None] | None = None


class Scheduler:
    """The places of the batch and the queue."""

    def __init__(self, places: int, blocks: BlockCache) -> None:
        self.places = places
        self.blocks = blocks
        self.running = 0
        self._queue: deque[Ticket] = deque()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def enter(self, ticket: Ticket) -> None:
        """Admit the ticket if there is room; otherwise queue it: `ticket.turn` is done when it was admitted."""
        if self._queue or not self._admit(ticket):
            ticket.turn = asyncio.get_running_loop().create_future()
            self._queue.append(ticket)

    def leave(self, ticket: Ticket, computed: Sequence[int] = ()) -> None:
        """Give back what the ticket holds, or its place in the queue, and admit who can run now."""
        if ticket.lease is None:
            self._queue.remove(ticket)
        else:
            self.running -= 1
            self.blocks.give_back(ticket.lease, computed)
            ticket.lease = None
        self.admit_waiting()

    def admit_waiting(self) -> None:
        """Admit from the head of the queue for as long as there is room."""
        while self._queue and self._admit(self._queue[0]):
            admitted = self._queue.popleft()
            if admitted.turn is not None and not admitted.turn.done():
                admitted.turn.set_result(None)

    def _admit(self, ticket: Ticket) -> bool:
        if self.running >= self.places:
            return False
        lease = self.blocks.take(ticket.hashes, prompt_tokens=ticket.prompt_tokens, total_blocks=ticket.total_blocks)
        if lease is None:
            return False
        ticket.lease = lease
        self.running += 1
        return True
