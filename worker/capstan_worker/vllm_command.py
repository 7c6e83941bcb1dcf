"""`capstan-worker vllm`: vLLM and the worker port in one process."""

import argparse
import asyncio
import logging
import os

from capstan_contract.kv_events import KV_EVENTS_PATH
from capstan_worker.drain import Drain, Drainer
from capstan_worker.engine.inprocess import AsgiEngine, CountedApp
from capstan_worker.engine.vllm import RunningVllm, keep_alive_seconds, render_vllm_metrics, run_vllm
from capstan_worker.errors import EngineError
from capstan_worker.health import WorkerPort
from capstan_worker.keeping import Keeper
from capstan_worker.kv_events.stream import kv_events_route
from capstan_worker.kv_events.subscriber import Addresses, EventSubscriber, held_by, render_events
from capstan_worker.prefixes import Prefix
from capstan_worker.queue.consumer import Consumer
from capstan_worker.queue.settings import QueueSettings
from capstan_worker.queue.wiring import QueuePart, engine_meter, make_consumer
from capstan_worker.serve import Listener, PortThread, Signals, announced, first, listening_socket, reachable
from capstan_worker.settings import WorkerSettings
from capstan_worker.warmup import Warmup

log = logging.getLogger(__name__)
_WATCH_SECONDS = 1.0


class VllmProcess:
    """vLLM, its API port on the main loop, and the worker port on a thread of its own."""

    def __init__(
        self,
        args: argparse.Namespace,
        worker: WorkerSettings,
        prefixes: tuple[Prefix, ...],
        *,
        port: int,
        queue: QueueSettings | None = None,
        published: Addresses | None = None,
    ) -> None:
        """`queue` None: no queued work is taken. `published`: where vLLM was told to publish which blocks it holds."""
        self._args = args
        self._queue_settings = queue
        self._queue = QueuePart()
        self._worker = worker
        self._prefixes = prefixes
        self._bound = listening_socket(worker.host, port)
        self._url = f"http://{reachable(worker.host)}:{port}"
        self._engine: AsgiEngine | None = None
        self._problem: str | None = "the model is loading"
        self._dead: str | None = None
        self._drainer = Drainer(Drain(grace=worker.grace_seconds, settle=worker.settle_seconds), self._in_flight)
        self._keeper: Keeper | None = None
        self._events = EventSubscriber(published) if published else None
        app = WorkerPort(
            self,
            self._drainer,
            more={KV_EVENTS_PATH: kv_events_route(held_by(self._events))},
            own_metrics=self._own_metrics,
        )
        self._port = PortThread(Listener(app, host=worker.host, port=worker.port))

    async def run(self) -> None:
        """Serve until a signal has led to a drain. Raises EngineError when the engine dies."""
        self._port.start()
        try:
            if self._events is not None:
                self._port.begin(self._events.run())
            async with run_vllm(self._args) as vllm:
                await self._serve(vllm)
        finally:
            self._port.stop()

    async def _serve(self, vllm: RunningVllm) -> None:
        app = CountedApp(vllm.app)
        self._engine = AsgiEngine(
            app, is_ready=lambda: self._problem is None, render_metrics=render_vllm_metrics, places=vllm.places
        )
        signals = Signals()
        listener = Listener(
            app,
            host=self._worker.host,
            port=self._bound.getsockname()[1],
            keep_alive_seconds=keep_alive_seconds(),
            bound=self._bound,
        )
        await listener.open()
        warm = asyncio.create_task(self._warm(vllm), name="warm-up")
        try:
            async with self._queue.begin(self._consumer(self._engine, vllm)):
                await first(signals.drained(self._drain), self._watch(vllm))
        finally:
            warm.cancel()
            await asyncio.gather(warm, return_exceptions=True)
            await listener.finish()

    async def _warm(self, vllm: RunningVllm) -> None:
        if vllm.generates and self._prefixes:
            self._problem = "prefixes are being warmed"
            keys = self._args.api_key or [os.environ.get("VLLM_API_KEY")]
            warmup = Warmup(self._url, vllm.model, self._prefixes, api_key=keys[0])
            self._keeper = Keeper(
                warmup, self.metrics, seconds=self._worker.keep_warm_seconds, stopped=lambda: self._drainer.draining
            )
            await warmup.run()
        self._problem = None
        log.info("ready", extra={"model": vllm.model, "url": self._url})
        if self._keeper is not None:
            await self._keeper.run()

    def _consumer(self, engine: AsgiEngine, vllm: RunningVllm) -> Consumer | None:
        if self._queue_settings is None:
            return None
        meter = engine_meter(self._queue_settings, engine, places=vllm.places)
        key = (self._args.api_key or [os.environ.get("VLLM_API_KEY")])[0]
        headers = (("authorization", f"Bearer {key}"),) if key else ()
        address = announced(self._worker.host, self._bound.getsockname()[1])
        return make_consumer(self._queue_settings, engine, meter, address=address, headers=headers)

    async def _drain(self) -> None:
        self._queue.leave()
        await self._port.call(self._drainer.wait())

    def _own_metrics(self) -> str:
        kept = self._keeper.render() if self._keeper else ""
        return kept + self._queue.render() + render_events(self._events)

    async def _watch(self, vllm: RunningVllm) -> None:
        while not vllm.died():  # noqa: ASYNC110  # vLLM sets a flag, not an event
            await asyncio.sleep(_WATCH_SECONDS)
        self._dead = "the engine has died"
        raise EngineError(self._dead)

    async def _in_flight(self) -> int:
        return 0 if self._engine is None else self._queue.in_flight(await self._engine.in_flight())

    async def not_alive(self) -> str | None:
        """Say whether the engine has died, or hangs."""
        return self._dead or self._queue.hung

    async def not_ready(self) -> str | None:
        """Say what is missing: the model or the prefixes."""
        return self._dead or self._problem

    async def metrics(self) -> bytes:
        """Give vLLM's metrics."""
        return render_vllm_metrics()
