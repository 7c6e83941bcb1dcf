"""One model's queue, as this gateway uses it: what it has put in, and what it tells Redis of that, in batches.

put        at once
passed     how much of answers was given out, and which pieces were read: with the next flush, FLUSH_SECONDS at most
cancel     with the next flush, which is at once; what Redis did not hear is said again by the next beat
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from capstan_contract.queue.calls import (
    SWEEP_AGAIN,
    Bounds,
    Call,
    Outcome,
    Placed,
    Queue,
    State,
    read_ids,
    read_placed,
    read_state,
)
from capstan_contract.queue.names import WINDOW_BYTES, PriorityClass, out_key, queue_prefix
from capstan_contract.queue.wire import Ask
from capstan_gateway.life.threads import Threads
from capstan_gateway.queueing.entry import BESIDE_BYTES, Entry
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.routing.unroutable import QueueRefused
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Links, Script, run_script
from capstan_gateway.stores.wire import Refused, pack
from capstan_gateway.upstream.errors import ConnectionLost, DeadlineExceeded, DeadlineKind, NoMemory

log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 0.05
SOON_BYTES: Final = WINDOW_BYTES // 2
"""Of one answer: its worker may wait for the news that so much was passed on."""
SOON_PIECES: Final = 1000
MOST_CANCELS: Final = 10_000
"""Entries that nobody wants and of which Redis has not heard that yet; the oldest are left to their deadlines."""
COPIES: Final = 2
"""Of a body, while it is put in: as it is packed, and in the command."""
BATCH: Final = 500
MOST_SWEEPS: Final = 10
_FULL: Final = frozenset((Outcome.LENGTH, Outcome.BYTES))


class Line:
    """Made when the model's first request comes; outlives configs."""

    def __init__(
        self, model_id: str, *, links: Links, gateway: str, threads: Threads, count: Callable[[str], object],
        turns: asyncio.Semaphore, seconds: float,
    ) -> None:  # fmt: skip
        """`turns` are for putting in what is large: all queues share a connection, and others must not wait long.
        `seconds` is how long a call of Redis may take."""
        self.model_id = model_id
        self.calls = Queue(queue_prefix(model_id))
        self.gateway = gateway
        self.out = out_key(self.calls.prefix, gateway)
        self.entries: dict[str, Entry] = {}
        """Those whose answer has not come to its end, or is still read."""
        self.at: dict[str, int] = {}
        """How many of them are answered by the engine of which endpoint, by `entry.Entry.at`."""
        self.state: State | None = None
        """As Redis has told it last; None: it is not known, or Redis is away."""
        self.state_at = 0.0
        self.used_at = -math.inf
        """When a request came last, in the loop's time."""
        self.joined = False
        """Whether Redis knows of this gateway here."""
        self.undeleted: dict[bytes, None] = {}
        """Pieces that were read, by their ids, and are perhaps still there."""
        self._links = links
        self._threads = threads
        self._count = count
        self._turns = turns
        self._seconds = seconds
        self._ahead_ms: float | None = None
        """By how much the time of Redis is ahead of the loop's, or less; None: nobody knows."""
        self._loop = asyncio.get_running_loop()
        self._passed: dict[str, int] = {}
        self._cancels: OrderedDict[str, None] = OrderedDict()
        self._flushing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, call: Call) -> Any:
        """Run a script. Raises StoreDown."""
        return await run_script(self._links, _script(call.script), call.keys, call.arguments)

    # --- entries ------------------------------------------------------------------------------------------------------

    async def put(self, entry: Entry) -> Placed:
        """Put an entry in; one that is there already stays as it is. Raises QueueRefused, NoMemory, and StoreDown: then
        nobody knows whether it is there. ConnectionLost in place of that, where it must not be sent twice."""
        size, memory = len(entry.call.body), entry.call.memory
        if size <= BESIDE_BYTES or memory is None:
            return await self._put(entry)
        try:
            async with asyncio.timeout_at(entry.call.expires_at):
                await self._turns.acquire()
        except TimeoutError:
            raise DeadlineExceeded(entry.whose, DeadlineKind.TOTAL) from None
        try:
            share = memory()
            if not share.grow(COPIES * size):
                raise NoMemory(entry.whose, "the gateway has no room to write it into the queue")
            try:
                return await self._put(entry)
            finally:
                share.shrink_to(max(share.held - COPIES * size, 0))
        finally:
            self._turns.release()

    async def _put(self, entry: Entry) -> Placed:
        call, wish = entry.call, entry.wish
        path = b"/v1" + call.path
        ask = Ask(path.decode("latin-1"), headers_of(call.headers)).write()
        if len(call.body) <= BESIDE_BYTES:
            body, tokens = entry.packing.pack(entry.id, "b", call.body), wish.tokens()
        else:
            body = await self._threads.run(entry.packing.pack, entry.id, "b", call.body)
            tokens = await self._threads.run(wish.tokens)
        left = max(int((call.expires_at - self._loop.time()) * 1000), 1)
        rules = wish.rules
        bounds = Bounds(rules.maxEntries, rules.maxBytes, int(rules.maxWaitSeconds * 1000))
        self.joined = True
        give_up = None
        if self._ahead_ms is not None:
            give_up = int((self._loop.time() + self._seconds) * 1000 + self._ahead_ms)
        enqueue = self.calls.enqueue(
            entry.id, priority=wish.priority, tenant=wish.tenant, weight=wish.weight, tokens=tokens, ttl_ms=left,
            gateway=self.gateway, ask=ask, body=body, bounds=bounds, once=not call.repeatable, not_after_ms=give_up,
        )  # fmt: skip
        try:
            placed = read_placed(await self.run(enqueue))
        except StoreDown as error:
            if call.repeatable or isinstance(error, Refused):
                raise
            raise ConnectionLost(entry.whose, "the queue has not said whether it has it") from error
        if placed.word is Outcome.LATE:
            self._ahead_ms = None  # Or the clock of Redis was set.
            raise StoreDown("Redis was too late to take it")
        if not placed.accepted:
            self._count(placed.word.value)
            full = placed.word in _FULL
            raise QueueRefused(
                f"the queue does not take it: {placed.word}", retry_after=placed.milliseconds / 1000, full=full
            )
        entry.accepted = True
        return placed

    def passed(self, entry_id: str, size: int) -> None:
        """So many bytes of an answer, as they were posted, have been given out."""
        known = self._passed[entry_id] = self._passed.get(entry_id, 0) + size
        self._flush_in(0.0 if known >= SOON_BYTES else FLUSH_SECONDS)

    def was_read(self, piece_ids: Iterable[bytes]) -> None:
        """These pieces were taken out of the stream, and can go."""
        for piece_id in piece_ids:
            self.undeleted[piece_id] = None
        self._flush_in(0.0 if len(self.undeleted) >= SOON_PIECES else FLUSH_SECONDS)

    def cancel(self, entry_id: str) -> None:
        """Nobody wants this one any more."""
        self._cancels[entry_id] = None
        if len(self._cancels) > MOST_CANCELS:
            self._cancels.popitem(last=False)
        self._flush_in(0.0)

    def place(self, entry: Entry, at: str | None) -> None:
        """The engine of this endpoint has begun to answer it; None: it waits, for the first time or again."""
        if entry.at is not None:
            self.at[entry.at] -= 1
            if not self.at[entry.at]:
                del self.at[entry.at]
        entry.at = at = at if entry.id in self.entries else None
        if at is not None:
            self.at[at] = self.at.get(at, 0) + 1

    def loads(self, states: Sequence[EndpointState]) -> tuple[list[int], int]:
        """Give how many requests of this gateway each endpoint has, directly and by the queue, and how many entries
        more there are: nobody knows of them at which endpoint they are, or will be."""
        if not self.entries:
            return [one.in_flight for one in states], 0
        found = [self.at.get(f"{one.endpoint.host}:{one.endpoint.port}", 0) for one in states]
        loads = [one.in_flight + queued for one, queued in zip(states, found, strict=True)]
        return loads, len(self.entries) - sum(found)

    def drop(self, entry: Entry, *, refused: bool = False) -> None:
        """Its answer is read, or nobody waits for it: whoever works on it is told, unless that is over."""
        self.place(entry, None)
        if self.entries.pop(entry.id, None) is not None:
            self._passed.pop(entry.id, None)
            if not (refused or entry.inbox.over):
                self.cancel(entry.id)

    def waits_since(self, since: float, priority: PriorityClass) -> bool:
        """Whether an entry that is as urgent, or more, was put in since then and nobody has begun to answer it."""
        for one in reversed(self.entries.values()):  # The latest one first: those before `since` are not looked at.
            if one.began_at < since:
                return False
            if one.waits and one.wish.priority <= priority:
                return True
        return False

    # --- what Redis is told -------------------------------------------------------------------------------------------

    def _flush_in(self, seconds: float) -> None:
        if self._flushing is not None:
            return  # What is there when it ends is flushed behind it.
        if self._timer is not None:
            if seconds:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._flushing is None:
            self._flushing = self._loop.create_task(self.flush())
            self._flushing.add_done_callback(self._flushed)

    def _flushed(self, task: "asyncio.Task[None]") -> None:
        self._flushing = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            if not isinstance(error, StoreDown):
                log.error("the queue could not be told", exc_info=error)
            return  # The next beat says it again.
        if self._passed or self._cancels or self.undeleted:
            self._flush_in(FLUSH_SECONDS)

    async def flush(self) -> None:
        """Tell what was passed on, what was read and what nobody wants any more. Raises StoreDown."""
        while self._cancels:
            ids = list(islice(self._cancels, BATCH))
            await self.run(self.calls.cancel(ids))
            for one in ids:
                self._cancels.pop(one, None)
        while self._passed:
            passed = list(islice(self._passed.items(), BATCH))
            for one, _ in passed:
                del self._passed[one]
            try:
                await self.run(self.calls.acknowledge(passed))
            except StoreDown:
                # NB: said twice, a worker sends some more than it may; not said at all, it could wait for ever.
                for one, size in passed:
                    if one in self.entries:
                        self._passed[one] = self._passed.get(one, 0) + size
                raise
        while self.undeleted:
            pieces = list(islice(self.undeleted, BATCH))
            await self._links.call(self.out, pack(("XDEL", self.out, *pieces)))
            for piece in pieces:
                self.undeleted.pop(piece, None)

    async def beat(self, *, sweep: bool) -> None:
        """Say that this gateway is there, and look how the queue stands. Raises StoreDown."""
        try:
            if self._cancels and self._flushing is None:
                await self.flush()  # Before what waits of it may be taken again, where it was silent for a while.
            state = read_state(await self.run(self.calls.beat(self.gateway)))
        except BaseException:
            self.state = None
            raise
        self.joined = True
        self.state, self.state_at = state, self._loop.time()
        self._ahead_ms = state.now_ms - self.state_at * 1000
        if self._flushing is None:
            await self.flush()
        for _ in range(MOST_SWEEPS if sweep else 0):
            if int(await self.run(self.calls.sweep())) < SWEEP_AGAIN:
                break

    async def unknown(self, ids: Iterable[str]) -> list[str]:
        """Give those that Redis does not know. Raises StoreDown."""
        asked, found = list(ids), []
        for start in range(0, len(asked), BATCH):
            found += read_ids(await self.run(self.calls.known(asked[start : start + BATCH])))
        return found

    async def withdraw(self, ids: Iterable[str]) -> list[str]:
        """Take out those that no worker has, and give them: nobody will begin with them. Raises StoreDown: then nobody
        knows which those are."""
        asked, found = list(ids), []
        for start in range(0, len(asked), BATCH):
            found += read_ids(await self.run(self.calls.withdraw(asked[start : start + BATCH])))
        return found

    async def leave(self) -> None:
        """Say that the gateway ends: what it has left is dropped. Raises StoreDown."""
        if self._flushing is not None:
            await asyncio.wait((self._flushing,))
        if self._timer is not None:
            self._timer.cancel()
        await self.flush()
        if self.joined:
            await self.run(self.calls.leave(gateway=self.gateway))
            self.joined = False


def headers_of(headers: Any) -> tuple[tuple[str, str], ...]:
    """Give headers as an entry holds them, whether they are written already or not."""
    if isinstance(headers, bytes):
        lines = headers.decode("latin-1").split("\r\n")
        return tuple((name, value) for name, _, value in (line.partition(": ") for line in lines if line))
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


@lru_cache(maxsize=32)
def _script(text: str) -> Script:
    return Script(text)
