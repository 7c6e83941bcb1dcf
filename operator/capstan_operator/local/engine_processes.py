"""Carries plans out: engines are started, waited for, started again after a crash, drained and ended."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from capstan_operator.local.configdir import write_atomically
from capstan_operator.local.launch import Launch, engine_command, engine_environment
from capstan_operator.local.plan import Crashes, Plan, Process, Slot, State
from capstan_operator.local.ports import free_ports
from capstan_operator.local.process import Child

FIRST_REST_SECONDS = 0.5
LONGEST_REST_SECONDS = 30.0
STABLE_SECONDS = 30.0
"""After so long in service a crash counts as the first one again."""
STOP_SECONDS = 10.0
"""From SIGTERM to SIGKILL, when nothing is in flight any more."""


def rest_seconds(crashes: int) -> float:
    """Give how long a slot rests after so many crashes in a row."""
    return float(min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2 ** min(crashes - 1, 10)))


@dataclass
class _Engine:
    """A process and what only the shell needs to know of it."""

    process: Process
    child: Child


class Engines:
    """The engine processes of one session."""

    def __init__(
        self,
        *,
        tasks: asyncio.TaskGroup,
        http: aiohttp.ClientSession,
        folder: Path,
        environment: dict[str, str],
        say: Callable[[str, str], None],
        changed: Callable[[], None],
        before_drain: Callable[[], Awaitable[None]],
    ) -> None:
        """`changed` is called after every change of state; `before_drain` waits until nobody sends anything more."""
        self._tasks = tasks
        self._http = http
        self._folder = folder
        self._environment = environment
        self._say = say
        self._changed = changed
        self._before_drain = before_drain
        self._ids = itertools.count(1)
        self._engines: dict[int, _Engine] = {}
        self._starting: dict[int, Process] = {}
        self._crashes: dict[Slot, Crashes] = {}
        self._resting: set[tuple[Slot, Launch]] = set()
        self._closing = False

    @property
    def processes(self) -> tuple[Process, ...]:
        """Every process that exists or is being made."""
        return (*self._starting.values(), *(engine.process for engine in self._engines.values()))

    @property
    def resting(self) -> frozenset[tuple[Slot, Launch]]:
        """What has crashed and is not to be started yet."""
        return frozenset(self._resting)

    @property
    def crashes(self) -> Mapping[Slot, Crashes]:
        """How often each slot has crashed in a row."""
        return self._crashes

    def carry_out(self, plan: Plan) -> None:
        """Begin what the plan says; `changed` tells how it goes on."""
        for slot, launch in plan.start:
            process = Process(id=next(self._ids), slot=slot, launch=launch, state=State.STARTING, url="")
            self._starting[process.id] = process
            self._tasks.create_task(self._live(process))
        for number in plan.stop:
            engine = self._engines.get(number)
            if engine is None:
                continue  # being made: its turn comes with the next plan
            served = engine.process.state is State.READY
            engine.process = replace(engine.process, state=State.STOPPING)
            self._tasks.create_task(self._retire(engine, served=served))

    async def close(self) -> None:
        """End all of them, without waiting for requests."""
        self._closing = True
        while self._starting or self._engines:
            engines = list(self._engines.values())
            for engine in engines:
                engine.process = replace(engine.process, state=State.STOPPING)
            await asyncio.gather(*(engine.child.stop(grace=STOP_SECONDS) for engine in engines))
            await asyncio.sleep(0.01)  # lets the tasks that follow the processes see the end

    def kill(self) -> None:
        """End all of them at once."""
        for engine in self._engines.values():
            engine.child.kill()

    async def _live(self, process: Process) -> None:
        """Start a process and follow it to its end."""
        begun = time.monotonic()
        try:
            engine = await self._start(process)
        finally:
            del self._starting[process.id]
        self._engines[process.id] = engine
        self._changed()
        try:
            await self._until_ready(engine, begun)
            ready_at = time.monotonic()
            code = await engine.child.wait()
        finally:
            await engine.child.stop(grace=STOP_SECONDS)
            del self._engines[process.id]
        if engine.process.state is not State.STOPPING:
            if engine.process.state is State.READY and time.monotonic() - ready_at > STABLE_SECONDS:
                self._crashes.pop(process.slot, None)
            self._rest(engine, f"ended with {_exit_text(code)}")
        self._changed()

    async def _start(self, process: Process) -> _Engine:
        port, worker_port = free_ports(2)
        name = log_name(process.slot)
        launch, prefixes = process.launch, self._write_prefixes(name, process.launch)
        places = self._write_files(f"{name}.{process.id}", launch)
        child = await Child.start(
            engine_command(launch, port=port, worker_port=worker_port, prefixes=prefixes, places=places),
            log=self._folder / "logs" / f"{name}.log",
            environment=self._environment | engine_environment(launch, places),
        )
        self._say(str(process.slot.model.name), f"starting {process.launch.title} (log: {child.log})")
        located = replace(process, url=f"http://127.0.0.1:{port}", worker_url=f"http://127.0.0.1:{worker_port}")
        return _Engine(located, child)

    def _write_prefixes(self, name: str, launch: Launch) -> Path | None:
        if not launch.prefixes:
            return None
        path = self._folder / "prefixes" / f"{name}.json"
        write_atomically(path, json.dumps([{"name": key, "system": text} for key, text in launch.prefixes]))
        return path

    def _write_files(self, name: str, launch: Launch) -> dict[str, str]:
        """Write the files of an engine; give where each is, by its path in a container."""
        places: dict[str, str] = {}
        for number, (path, content) in enumerate(launch.files):
            # NB: some engines go by the end of a file's name.
            place = self._folder / "files" / name / str(number) / Path(path).name
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.write_bytes(content)
            places[path] = str(place)
        return places

    async def _until_ready(self, engine: _Engine, begun: float) -> None:
        """Wait until the engine says that it is ready; return early when it ends."""
        limit = engine.process.launch.ready_seconds
        name = engine.process.slot.model.name
        while engine.child.running and engine.process.state is State.STARTING:
            if await self._is_ready(engine):
                engine.process = replace(engine.process, state=State.READY)
                self._say(name, f"ready after {time.monotonic() - begun:.1f} s")
                self._changed()
            elif time.monotonic() - begun > limit:
                self._say(name, f"not ready after {limit:.0f} s, ending it")
                await engine.child.stop(grace=STOP_SECONDS)
            else:
                await asyncio.sleep(0.1)

    async def _is_ready(self, engine: _Engine) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=2)
            async with self._http.get(f"{engine.process.worker_url}/readyz", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _rest(self, engine: _Engine, why: str) -> None:
        """Keep a crashed slot from being started again for a while; show why it crashed the first time."""
        slot, launch = engine.process.slot, engine.process.launch
        before = self._crashes.get(slot)
        if before is None or before.launch != launch:
            before = Crashes(launch, 0, datetime.now(UTC))
        crashes = before.count + 1
        self._crashes[slot] = replace(before, count=crashes)
        seconds = rest_seconds(crashes)
        self._say(slot.model.name, f"{launch.title} {why}; starting it again in {seconds:g} s")
        if crashes == 1 and (tail := engine.child.tail()):
            self._say(slot.model.name, "the end of its log:\n" + "\n".join(f"    {line}" for line in tail.splitlines()))
        self._resting.add((slot, launch))
        asyncio.get_running_loop().call_later(seconds, self._rested, (slot, launch))

    def _rested(self, pair: tuple[Slot, Launch]) -> None:
        self._resting.discard(pair)
        self._changed()

    async def _retire(self, engine: _Engine, *, served: bool) -> None:
        """End a process that is not wanted any more, after its last request."""
        if served:
            await self._before_drain()
            await self._drain(engine)
        await engine.child.stop(grace=STOP_SECONDS)
        self._say(engine.process.slot.model.name, f"stopped the old {engine.process.launch.title}")

    async def _drain(self, engine: _Engine) -> None:
        timeout = aiohttp.ClientTimeout(total=engine.process.launch.drain_seconds)
        try:
            async with self._http.get(f"{engine.process.worker_url}/drain", timeout=timeout) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError):
            pass  # it has ended, or its time is up: either way it is stopped next


def log_name(slot: Slot) -> str:
    """Give the name of a slot's log file, without the suffix."""
    return slot.model.name + (f"-{slot.ordinal}" if slot.ordinal else "")


def _exit_text(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
