"""When a worker takes entries, and how many.

Nobody is woken twice for the same: a worker hears the bell only while its engine has room, and passes on what it has
heard and cannot take. Nothing waits unseen: after each end it takes again, unless it has left nothing and listens, and
in any case every SAFETY_SECONDS.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import Final

from capstan_contract.queue.calls import Queue, Taken, read_ids, read_taken
from capstan_contract.queue.names import bell_key
from capstan_worker.engine.port import Engine
from capstan_worker.errors import EngineError, QueueAway
from capstan_worker.queue.link import Link
from capstan_worker.queue.load import Meter
from capstan_worker.queue.pauses import Pause
from capstan_worker.queue.room import spare_room

SAFETY_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 0.25
"""How soon it is looked again for room, while something may wait that could not be taken."""
LONGEST_REST_SECONDS: Final = 5.0
MOST_TAKEN: Final = 8
"""Entries of one call, whose bodies may be large."""


@dataclass(frozen=True, slots=True)
class Working:
    """What the intake sees of the work."""

    start: Callable[[Taken], Awaitable[None]]
    """Begins with an entry."""
    running: Callable[[], int]
    """How many entries the engine has."""
    laden: Callable[[], bool]
    """Whether so much is in memory that nothing may be taken."""
    hung: Callable[[], bool]
    """Whether the engine hangs."""
    has: Callable[[], Collection[str]]
    """The entries that it knows of."""
    is_ready: Callable[[], None]
    """Hears that the engine has said that it is ready."""


class Intake:
    """Takes entries of one queue for one engine."""

    def __init__(
        self, engine: Engine, link: Link, meter: Meter, calls: Queue, name: str, working: Working, *,
        spare_percent: int, rng: Random,
    ) -> None:  # fmt: skip
        """Entries of the least urgent class are taken only where more than `spare_percent` of the places stay free."""
        self._engine = engine
        self._link = link
        self._meter = meter
        self._calls = calls
        self._bell = bell_key(calls.prefix)
        self._name = name
        self._working = working
        self._spare_percent = spare_percent
        self._wake = asyncio.Event()
        self._wake.set()
        self._open = asyncio.Event()
        """Whether the bell is listened to."""
        self._heard = False
        self._left_none = False
        """Whether nothing waited that could not be taken, and the bell tells of more."""
        self._unsure = False
        """Whether a reply was lost that may have brought entries."""
        self._again_at: float | None = None
        self._not_before = 0.0
        self._rests = Pause(AGAIN_SECONDS, LONGEST_REST_SECONDS, rng)
        self._leaving = False
        self._mistrusted = False
        """Whether the latest entry could not be read."""
        self.ready = False
        """Whether the engine answers, as far as is known."""
        self.room = 0
        """How many more it would take, when it looked last."""

    def wake(self) -> None:
        """An entry has ended: look again, unless there was room for all that waited."""
        if self._left_none:
            self.room = min(self.room + 1, self._meter.places)
        else:
            self._wake.set()

    def leave(self) -> None:
        """Take nothing more."""
        self._leaving = True
        self.room = 0
        self._left_none = False
        self._open.clear()
        self._wake.set()

    def doubt(self) -> None:
        """The engine may be gone: nothing is taken before it says that it is ready."""
        self.ready = False

    def rest(self, seconds: float | None = None) -> None:
        """Take nothing for a while: for longer each time, unless it is said how long."""
        self._not_before = asyncio.get_running_loop().time() + (self._rests.next() if seconds is None else seconds)

    def mistrust(self) -> None:
        """An entry could not be read: until one can be, one at a time is taken, and less and less often."""
        self._mistrusted = True
        self.rest()

    def is_well(self) -> None:
        """The engine has answered: the next rest is a short one."""
        self._mistrusted = False
        self._rests.reset()

    async def take_step(self) -> None:
        """Wait for a reason, and take what there is room for."""
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(now + SAFETY_SECONDS if self._again_at is None else self._again_at):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
        self._again_at = None
        heard, self._heard = self._heard, False
        self._left_none = False
        try:
            spare = await self._take_all()
            # Where room is left for any entry, nothing waits any more.
            waits = spare == 0 and heard and int(await self._link.run(self._calls.pass_on())) > 0
        except BaseException:
            self._heard = self._heard or heard
            self._wake.set()
            raise
        self._listen(hears=self.room > 0 and not waits)
        self._left_none = spare > 0 and self._open.is_set()

    async def bell_step(self) -> None:
        """Hear the bell, while there is room."""
        await self._open.wait()
        try:
            heard = await self._link.hear(self._bell, SAFETY_SECONDS) is not None
        except QueueAway:
            # It may have rung, and the reply was lost: nobody else hears that.
            self._heard = True
            self._wake.set()
            raise
        if heard:
            self._heard = True
            self._wake.set()

    async def _take_all(self) -> int:
        """Take what there is room for; give how many more, also of the least urgent class, could be taken."""
        if self._unsure:
            await self._return_unknown()
        self.room = await self._free()
        while self.room > 0 and await self._take():
            pass
        return self._spare()

    def _spare(self) -> int:
        return spare_room(self.room, self._meter.places, self._spare_percent)

    async def _take(self) -> bool:
        """Take some; say whether there may be more."""
        most = min(self.room, MOST_TAKEN)
        self._unsure = True
        taken = read_taken(await self._link.run(self._calls.take(self._name, most=most, spare=self._spare())))
        self._unsure = False
        self.room -= len(taken)
        for one in taken:
            await self._working.start(one)
        return len(taken) == most and not self._leaving and not self._working.laden()

    async def _return_unknown(self) -> None:
        """Give back what a lost reply has brought: when its lease ended it would count as a loss."""
        known = self._working.has()
        unknown = [one for one in read_ids(await self._link.run(self._calls.has(self._name))) if one not in known]
        if unknown:
            await self._link.run(self._calls.give_back(self._name, unknown, crashed=False))
        self._unsure = False

    async def _free(self) -> int:
        now = asyncio.get_running_loop().time()
        if self._leaving or now < self._not_before or self._working.laden():
            return 0
        running, hung = self._working.running(), self._working.hung()
        if hung and running:
            return 0
        try:
            if not self.ready:
                self.ready = await self._engine.ready()
                if not self.ready:
                    self.rest(2 * AGAIN_SECONDS)
                    return 0
                self._working.is_ready()
            room = await self._meter.room(running)
        except EngineError:
            return 0
        # One that hangs is asked one thing at a time, until it gives something again.
        return min(room, 1) if hung or self._mistrusted else room

    def _listen(self, *, hears: bool) -> None:
        if hears and not self._leaving:
            self._open.set()
            return
        self._open.clear()
        # Where all places are taken by entries, the end of one of them wakes.
        if not self._leaving and (self.room > 0 or self._working.running() < self._meter.places):
            self._again_at = asyncio.get_running_loop().time() + AGAIN_SECONDS
