"""One background response from wherever it is to its end, by whoever has its lease."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

from capstan_gateway.background.means import Means
from capstan_gateway.background.outcomes import ABANDONED, KEY_GONE, LATE, LOST, Outcome, failure, outcome_of
from capstan_gateway.background.port import Slot
from capstan_gateway.background.records import Record
from capstan_gateway.background.state import Lease, LeaseLost
from capstan_gateway.background.status import Status
from capstan_gateway.documents import INLINE_BYTES
from capstan_gateway.identity.principal import Principal
from capstan_gateway.life.threads import Busy
from capstan_gateway.memory import Share
from capstan_gateway.own_asks import MOST_FAILURES, Answer, retry_of
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.responses import Stored

BEAT_SECONDS: Final = 1.0
"""How often the lease is renewed, by which it is also heard that the response was cancelled."""
MOST_TAKEN: Final = 3
"""How often a response is taken whose gateways are lost."""
PAUSE_SECONDS: Final = 1.0
"""How long to wait for Redis, for memory, or for the thread, before it is tried again."""
KEPT_SECONDS: Final = 5.0
"""What waits longer than this until it is asked again leaves its place to another one."""


class Left(NamedTuple):
    """A response that is not over is given back."""

    seconds: float = 0.0
    """Nobody is to take it for so long."""
    waits: int = 0
    """How often it was to wait."""


class Work:
    """On one response."""

    def __init__(self, lease: Lease, means: Means, *, taken: int = 1) -> None:
        """`taken` is how often somebody has had its lease who did not give it back."""
        self.lease: Final = lease
        self._means = means
        self._taken = taken
        self._stop = asyncio.Event()
        """Set when nothing more is to be asked, because the process is on its way out."""

    async def run(self) -> Left | None:
        """Work until the response is over, here or elsewhere; give how it is left to others when it is to wait for
        long, or the process is on its way out. Raises StoreDown when it could not be read."""
        going = asyncio.create_task(self._go())
        beating = asyncio.create_task(self._beat(going))
        try:
            return await going
        except LeaseLost:
            return None
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if own is not None and own.cancelling():
                raise
            return None
        finally:
            for task in (beating, going):
                task.cancel()
            await asyncio.gather(beating, going, return_exceptions=True)

    async def _beat(self, going: "asyncio.Task[Left | None]") -> None:
        means = self._means
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if not means.asks.is_ready:
                self._stop.set()
            try:
                await means.responses.renew(self.lease)
            except LeaseLost:
                going.cancel()
                return
            except StoreDown:
                # Who has the response by now is known when Redis is back; until then there is an answer to be had.
                continue

    async def _go(self) -> Left | None:
        means = self._means
        record = await means.responses.read(self.lease)
        share = means.budget.share()
        try:
            while not share.grow(2 * len(record.body)):
                if self._stop.is_set():
                    return Left(waits=record.waits)
                await self._pause(PAUSE_SECONDS)
            outcome = await self._outcome(record, share)
            if isinstance(outcome, Left):
                return outcome
            await self._told(partial(means.responses.end, self.lease, outcome))
        finally:
            share.release()
        means.count(outcome.status)
        return None

    async def _outcome(self, record: Record, share: Share) -> Outcome | Left:
        """Give what comes of it, or how that is left to another one."""
        means, spec = self._means, record.spec
        if record.status is Status.IN_PROGRESS and spec.once and not record.unsent:
            return failure(record, LOST)
        if self._taken > MOST_TAKEN:
            return failure(record, ABANDONED)
        waits, before = record.waits, share.held
        while (left := spec.expires_at - means.responses.wall()) > 0:
            if self._stop.is_set():
                return Left(waits=waits)
            who = means.asks.still(spec.principal, by_key=spec.by_key)
            if who is None:
                return failure(record, KEY_GONE)
            await self._told(partial(means.responses.begin, self.lease))
            slot = Slot(spec.id.removeprefix("resp_"))
            try:
                async with asyncio.timeout(left):
                    answer = await self._ask(record, who, slot, share)
            except TimeoutError:
                break
            waits += 1
            left = spec.expires_at - means.responses.wall()
            # What has failed was tried again already, as for a client that waits: only room is waited for here.
            retry = retry_of(answer, failures=MOST_FAILURES, waits=waits, left_seconds=left)
            if retry is None:
                return await self._read(record, answer, slot.stored)
            if retry.seconds > KEPT_SECONDS:
                return Left(retry.seconds, waits)
            share.shrink_to(before)
            await self._pause(retry.seconds)
        return failure(record, LATE)

    async def _ask(self, record: Record, who: Principal, slot: Slot, share: Share) -> Answer:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in record.spec.headers]
        return await self._means.asks.respond(record.body, who, slot, share, headers=headers)

    async def _read(self, record: Record, answer: Answer, stored: Stored | None) -> Outcome:
        """Read the answer, a large one beside the loop."""
        most = self._means.responses.most_bytes
        if len(answer.body) <= INLINE_BYTES:
            return outcome_of(record, answer, stored, most_bytes=most)
        while True:
            try:
                return await self._means.threads.run(partial(outcome_of, record, answer, stored, most_bytes=most))
            except Busy:
                await asyncio.sleep(PAUSE_SECONDS)

    async def _told(self, tell: Callable[[], Awaitable[None]]) -> None:
        """Tell Redis, as soon as it is there."""
        while True:
            try:
                return await tell()
            except StoreDown:
                await asyncio.sleep(PAUSE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Wait for so long, or until nothing more is to be asked."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return
