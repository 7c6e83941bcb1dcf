"""`capstan-worker sidecar`: the worker port beside an engine that runs in another container or process."""

import asyncio
import logging
from urllib.parse import urlsplit

from capstan_contract.kv_events import KV_EVENTS_PATH
from capstan_worker.drain import Drain, Drainer
from capstan_worker.engine.http import HttpEngine
from capstan_worker.engine.kinds import EngineKind
from capstan_worker.errors import EngineError, EngineUnreachable
from capstan_worker.health import WorkerPort
from capstan_worker.keeping import Keeper
from capstan_worker.kv_events.stream import kv_events_route
from capstan_worker.kv_events.subscriber import Addresses, EventSubscriber, held_by, render_events
from capstan_worker.prefixes import Prefix
from capstan_worker.queue.consumer import Consumer
from capstan_worker.queue.settings import QueueSettings
from capstan_worker.queue.wiring import QueuePart, batched, make_consumer, metrics_meter
from capstan_worker.serve import Listener, Signals, announced
from capstan_worker.settings import SidecarSettings, WorkerSettings
from capstan_worker.warmup import Warmup

log = logging.getLogger(__name__)
_ASK_AGAIN_SECONDS = 0.5
_WRITES_TEXT = ("chat", "completion")


def _subscriber(settings: SidecarSettings) -> EventSubscriber | None:
    if not settings.kv_events:
        return None
    return EventSubscriber(Addresses(settings.kv_events, settings.kv_events_replay))


def _address(settings: SidecarSettings, worker: WorkerSettings) -> str:
    """Give where gateways reach the engine, which is in the same pod."""
    parts = urlsplit(settings.url)
    return announced(worker.host, parts.port or (443 if parts.scheme == "https" else 80))


class SidecarProcess:
    """Watches one engine: ready when it answers and the prefixes are warm, drained when it has nothing in flight."""

    def __init__(
        self,
        settings: SidecarSettings,
        worker: WorkerSettings,
        prefixes: tuple[Prefix, ...],
        queue: QueueSettings | None = None,
    ) -> None:
        """`queue` None: no queued work is taken."""
        self._engine = HttpEngine(settings.url, settings.kind)
        self._queue = QueuePart()
        self._consumer: Consumer | None = None
        if queue is not None:
            meter = metrics_meter(queue, self._engine, settings.kind)
            self._consumer = make_consumer(
                queue, batched(queue, self._engine, settings.kind), meter, address=_address(settings, worker)
            )
        # An engine that only makes vectors has no prompt to keep.
        kept = prefixes if settings.task in _WRITES_TEXT else ()
        self._warmup = Warmup(settings.url, settings.model, kept)
        self._drainer = Drainer(Drain(grace=worker.grace_seconds, settle=worker.settle_seconds), self._in_flight)
        self._keeper = Keeper(
            self._warmup,
            self._engine.metrics,
            seconds=worker.keep_warm_seconds,
            stopped=lambda: self._drainer.draining,
            blindly=settings.kind is not EngineKind.OPENAI_COMPATIBLE,
        )
        self._events = _subscriber(settings)
        app = WorkerPort(
            self,
            self._drainer,
            more={KV_EVENTS_PATH: kv_events_route(held_by(self._events))},
            own_metrics=lambda: self._keeper.render() + self._queue.render() + render_events(self._events),
        )
        self._port = Listener(app, host=worker.host, port=worker.port)
        self._settings = settings

    async def run(self) -> None:
        """Serve until a signal has led to a drain."""
        signals = Signals()
        async with self._engine:
            await self._port.open()
            log.info("sidecar listening", extra={"engine": self._settings.kind.value, "url": self._settings.url})
            tasks = [asyncio.create_task(self._warm(), name="warm-up")]
            if self._events is not None:
                tasks.append(asyncio.create_task(self._events.run(), name="kv-events"))
            try:
                async with self._queue.begin(self._consumer):
                    await signals.drained(self._drain)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._port.finish(1.0)

    async def _warm(self) -> None:
        while not await self._engine.ready():  # noqa: ASYNC110  # another process does not set events
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
        await self._warmup.run()
        await self._keeper.run()

    async def _drain(self) -> None:
        self._queue.leave()
        await self._drainer.wait()

    async def _in_flight(self) -> int:
        return self._queue.in_flight(await self._engine_in_flight())

    async def _engine_in_flight(self) -> int:
        try:
            return await self._engine.in_flight()
        except EngineUnreachable:
            # It has ended; there is nothing left to wait for.
            return 0
        except EngineError as error:
            # An engine too busy to say how busy it is has something in flight.
            log.warning("in-flight requests not known", extra={"reason": str(error)})
            return 1

    async def not_alive(self) -> str | None:
        """The sidecar works; whether the engine does is for the engine's own probe."""
        return None

    async def not_ready(self) -> str | None:
        """Say what is missing: the engine, which may hang, or the prefixes."""
        if self._queue.hung:
            return self._queue.hung
        if not await self._engine.ready():
            return "the engine does not answer yet"
        return None if self._warmup.done else "prefixes are being warmed"

    async def metrics(self) -> bytes:
        """Give the engine's metrics; while it does not answer, only that it does not."""
        try:
            body, up = await self._engine.metrics(), 1
        except EngineError:
            body, up = b"", 0
        separator = b"" if not body or body.endswith(b"\n") else b"\n"
        own = (
            "# HELP capstan_worker_engine_up Whether the engine answers.\n"
            "# TYPE capstan_worker_engine_up gauge\n"
            f"capstan_worker_engine_up {up}\n"
        )
        return body + separator + own.encode()
