"""What an engine tells of its load, asked no more often than it can have changed much."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from capstan_worker.engine.kinds import GAUGES, PULSES, EngineKind, sum_metric
from capstan_worker.engine.port import Engine
from capstan_worker.errors import EngineError, EngineUnreachable
from capstan_worker.queue.room import Load, room_for

KEPT_SECONDS: Final = 0.25
FEW: Final = 4
"""So many more an engine is given at a time whose places nobody knows; or half as many as it has, if that is more."""


class Meter(Protocol):
    """How much room an engine has, and whether it does anything."""

    @property
    def places(self) -> int:
        """How many entries it works on at a time at most."""

    async def room(self, mine: int) -> int:
        """Say how many more entries the engine would run at once, when it runs so many of ours."""

    async def pulse(self) -> float | None:
        """Give a number that grows as long as the engine computes; None where nothing tells."""


def read_load(text: str, kind: EngineKind) -> Load | None:
    """Read an engine's load from its metrics; None where they do not say."""
    gauges = GAUGES.get(kind)
    running = None if gauges is None else sum_metric(text, gauges.running)
    if gauges is None or running is None:
        return None
    waiting = sum_metric(text, gauges.waiting) or 0.0
    memory = max((found for name in gauges.memory if (found := sum_metric(text, name)) is not None), default=None)
    return Load(round(running + waiting), round(waiting), memory)


def read_pulse(text: str) -> float | None:
    """Add up what an engine has computed; None where its metrics do not say."""
    found = [value for name in PULSES if (value := sum_metric(text, name)) is not None]
    return sum(found) if found else None


class EngineMeter:
    """Of an engine in this process, which tells itself how much room it has."""

    def __init__(self, engine: Engine, *, places: int) -> None:
        self._engine = engine
        self.places = places

    async def room(self, mine: int) -> int:
        """Ask the engine, which knows of direct requests as well."""
        return room_for(self.places, mine, told=await self._engine.room())

    async def pulse(self) -> float | None:
        """Ask for its metrics; one that does not give them has none."""
        try:
            return read_pulse((await self._engine.metrics()).decode(errors="replace"))
        except (EngineError, ValueError):
            return None


class MetricsMeter:
    """Of an engine behind a URL, by its metrics, which are kept for a moment."""

    def __init__(
        self, engine: Engine, kind: EngineKind, *, places: int, careful: bool = False, seconds: float = KEPT_SECONDS
    ) -> None:
        """`careful`: it may have fewer places, so it is given a few more at a time until some wait in it."""
        self._careful = careful
        self._engine = engine
        self._kind = kind
        self._places = places
        self._seconds = seconds
        self._read_at: float | None = None
        self._load: Load | None = None
        self._mine = 0
        """How many of ours it had when it was read."""

    @property
    def places(self) -> int:
        """How many entries it works on at a time at most; of one of which nobody knows that, those that it is known to
        have, and the few more that it may be given."""
        if not self._careful or self._load is None:
            return self._places
        return min(self._places, self._load.busy + _few_more(self._load))

    async def room(self, mine: int) -> int:
        """Ask the engine, unless it was asked just now. There is none in one that does not listen."""
        now = asyncio.get_running_loop().time()
        if self._read_at is None or now - self._read_at >= self._seconds:
            try:
                self._load = read_load((await self._engine.metrics()).decode(errors="replace"), self._kind)
            except EngineUnreachable:
                return 0
            except (EngineError, ValueError):
                self._load = None
            self._read_at, self._mine = now, mine
        since = mine - self._mine
        room = room_for(self._places, mine, load=self._load, since=since)
        if not self._careful or self._load is None:
            return room
        return min(room, max(_few_more(self._load) - since, 0))

    async def pulse(self) -> float | None:
        """Ask for its metrics; one that does not give them has none."""
        try:
            return read_pulse((await self._engine.metrics()).decode(errors="replace"))
        except (EngineError, ValueError):
            return None


def _few_more(load: Load) -> int:
    return max(FEW, load.busy // 2)


class OwnMeter:
    """Of an engine in this process, whose numbers can be looked at."""

    def __init__(self, load: Callable[[], Load], *, places: Callable[[], int], metrics: Callable[[], bytes]) -> None:
        self._load = load
        self._places = places
        self._metrics = metrics

    @property
    def places(self) -> int:
        """How many run at once."""
        return self._places()

    async def room(self, mine: int) -> int:
        """Look."""
        return room_for(self.places, mine, load=self._load())

    async def pulse(self) -> float | None:
        """Look at its metrics."""
        return read_pulse(self._metrics().decode(errors="replace"))
