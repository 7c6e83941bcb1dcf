"""`capstan-worker simulator`: the simulated engine and its worker port in one process."""

import asyncio
import logging

import orjson

from capstan_contract.kv_events import KV_EVENTS_PATH
from capstan_worker.asgi import Receive, Scope, Send, read_body, reply, reply_json
from capstan_worker.drain import Drain, Drainer
from capstan_worker.engine.http import HttpEngine
from capstan_worker.engine.kinds import EngineKind
from capstan_worker.errors import UsageError
from capstan_worker.health import WorkerPort
from capstan_worker.keeping import Keeper
from capstan_worker.kv_events.held import HeldBlocks
from capstan_worker.kv_events.stream import kv_events_route, render_held
from capstan_worker.prefixes import Prefix
from capstan_worker.queue.load import OwnMeter
from capstan_worker.queue.room import Load
from capstan_worker.queue.settings import QueueSettings
from capstan_worker.queue.wiring import QueuePart, make_consumer
from capstan_worker.serve import Listener, Signals, announced, reachable
from capstan_worker.settings import WorkerSettings
from capstan_worker.simulator.app import Simulator
from capstan_worker.simulator.blocks import BLOCK_SIZE
from capstan_worker.simulator.breakable_connection import BreakableConnection
from capstan_worker.simulator.settings import SimulatorSettings, show_dials, turn_dials
from capstan_worker.warmup import Warmup

log = logging.getLogger(__name__)
_LARGEST_SETTINGS = 65536


class SimulatorProcess:
    """The simulator, its two ports, and the dials that are turned over HTTP."""

    def __init__(
        self,
        settings: SimulatorSettings,
        worker: WorkerSettings,
        prefixes: tuple[Prefix, ...],
        queue: QueueSettings | None = None,
    ) -> None:
        """`queue` None: no queued work is taken."""
        self._blocks = HeldBlocks(block_tokens=BLOCK_SIZE) if settings.kv_events else None
        self.simulator = Simulator(settings, self._blocks)
        self._settings = settings
        self._worker = worker
        self._api = Listener(
            self.simulator,
            host=settings.host,
            port=settings.port,
            keep_alive_seconds=settings.keep_alive_seconds,
            protocol=BreakableConnection,
        )
        url = f"http://{reachable(settings.host)}:{settings.port}"
        self._warmup = Warmup(url, settings.model, prefixes)
        # Over its own port, so that its faults break queued requests as they break direct ones.
        self._engine = HttpEngine(url, EngineKind.VLLM)
        self._queue = QueuePart()
        self._consumer = None if queue is None else make_consumer(
            queue, self._engine, self._meter(queue), address=announced(settings.host, settings.port)
        )  # fmt: skip
        drain = Drain(grace=worker.grace_seconds, settle=worker.settle_seconds)
        self._drainer = Drainer(drain, self._in_flight)
        self._keeper = Keeper(
            self._warmup,
            self.metrics,
            seconds=worker.keep_warm_seconds,
            stopped=lambda: self._drainer.draining,
        )
        port = WorkerPort(
            self,
            self._drainer,
            more={
                "/simulator/settings": self._settings_route,
                KV_EVENTS_PATH: kv_events_route(self._blocks),
            },
            own_metrics=lambda: self._keeper.render() + render_held(self._blocks) + self._queue.render(),
        )
        self._port = Listener(port, host=worker.host, port=worker.port)

    async def run(self) -> None:
        """Serve until a signal has led to a drain."""
        signals = Signals()
        await self._port.open()
        await self._api.open()
        start = asyncio.create_task(self._start(), name="start")
        log.info("simulator listening", extra={"model": self._settings.model, "port": self._settings.port})
        try:
            async with self._engine, self._queue.begin(self._consumer):
                await signals.drained(self._drain)
        finally:
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
            if self._blocks is not None:
                self._blocks.close()
            await self._api.finish()
            await self._port.finish(1.0)

    async def _start(self) -> None:
        await asyncio.sleep(self._settings.startup_seconds)
        self.simulator.loaded = True
        if self._settings.task in ("chat", "completion"):
            await self._warmup.run()
            await self._keeper.run()

    def _meter(self, queue: QueueSettings) -> OwnMeter:
        scheduler = self.simulator.scheduler

        def load() -> Load:
            return Load(scheduler.running + scheduler.waiting, scheduler.waiting, scheduler.blocks.usage)

        return OwnMeter(
            load,
            places=lambda: queue.queue_places or self.simulator.dials.concurrency,
            metrics=self.simulator.metrics.render,
        )

    async def _drain(self) -> None:
        self._queue.leave()
        await self._drainer.wait()

    async def _in_flight(self) -> int:
        return self._queue.in_flight(self.simulator.in_flight)

    async def not_alive(self) -> str | None:
        """The process answers, so it works; unless its engine hangs."""
        return self._queue.hung

    async def not_ready(self) -> str | None:
        """Say what is missing: the model, the prefixes, or that somebody turned `healthy` or `accepting` off."""
        if not self.simulator.loaded:
            return "the model is loading"
        if self._settings.task in ("chat", "completion") and not self._warmup.done:
            return "prefixes are being warmed"
        dials = self.simulator.dials
        return None if dials.healthy and dials.accepting else "turned off"

    async def metrics(self) -> bytes:
        """Give the engine's metrics."""
        return self.simulator.metrics.render()

    async def _settings_route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "PUT":
            try:
                changes = orjson.loads(await read_body(receive, limit=_LARGEST_SETTINGS) or b"{}")
                if not isinstance(changes, dict):
                    raise UsageError("the body must be a JSON object")
                await self._turn(changes)
            except (UsageError, ValueError) as error:
                await reply_json(send, 400, {"error": str(error)})
                return
        elif scope["method"] != "GET":
            await reply(send, 405, b"")
            return
        await reply_json(send, 200, show_dials(self.simulator.dials))

    async def _turn(self, changes: dict[str, object]) -> None:
        dials = turn_dials(self.simulator.dials, changes)
        if "faults" not in changes:
            # Turning another dial must not count the faults anew.
            self.simulator.turn(dials, keep_faults=True)
        else:
            self.simulator.turn(dials)
        if dials.accepting:
            await self._api.open()
        else:
            self._api.close()
            for connection in self._api.connections():
                if isinstance(connection, BreakableConnection):
                    connection.abort()
