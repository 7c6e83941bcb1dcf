"""The queue's part of a worker command: nothing at all where there is no queue."""

import asyncio
import socket
from types import TracebackType

from capstan_contract.queue.wire import Packing
from capstan_worker.engine.kinds import GAUGES, EngineKind
from capstan_worker.engine.port import Engine
from capstan_worker.errors import EngineError
from capstan_worker.queue.batching import BatchingEngine
from capstan_worker.queue.consumer import Consumer
from capstan_worker.queue.load import EngineMeter, Meter, MetricsMeter
from capstan_worker.queue.settings import CAUTIOUS_PLACES, USUAL_PLACES, QueueSettings


def engine_meter(settings: QueueSettings, engine: Engine, *, places: int | None) -> EngineMeter:
    """Make the meter of an engine in this process, which has so many places."""
    return EngineMeter(engine, places=settings.queue_places or places or CAUTIOUS_PLACES)


def metrics_meter(settings: QueueSettings, engine: Engine, kind: EngineKind) -> MetricsMeter:
    """Make the meter of an engine behind a URL."""
    # Two calls' worth of requests: one that the engine works on, and one that is collected meanwhile.
    usual = USUAL_PLACES if kind in GAUGES else max(CAUTIOUS_PLACES, 2 * settings.queue_batch_size)
    return MetricsMeter(
        engine, kind, places=settings.queue_places or usual, careful=not settings.queue_places and kind in GAUGES
    )


def batched(settings: QueueSettings, engine: Engine, kind: EngineKind) -> Engine:
    """Give the engine as it is asked: several requests in a call, where it batches nothing itself."""
    if kind is not EngineKind.OPENAI_COMPATIBLE or settings.queue_batch_size <= 1:
        return engine
    seconds = settings.queue_batch_milliseconds / 1000
    return BatchingEngine(engine, size=settings.queue_batch_size, seconds=seconds)


def make_consumer(
    settings: QueueSettings, engine: Engine, meter: Meter, *, address: str, headers: tuple[tuple[str, str], ...] = ()
) -> Consumer:
    """Make the worker of the queue that the settings name, whose engine gateways reach at this address."""
    from capstan_worker.queue.link import RedisLink  # the client of Redis takes 0.1 s to load, which most do without

    link = RedisLink(
        settings.redis_url or "",
        password=settings.redis_password,
        sentinel_password=settings.redis_sentinel_password,
        ca_file=settings.redis_ca_file,
        seconds=settings.redis_seconds,
    )
    return Consumer(
        engine,
        link,
        meter,
        model=settings.queue_model,
        name=settings.name(),
        packing=Packing((settings.queue_secret or "").encode()),
        spare_percent=settings.queue_spare_percent,
        hung_seconds=settings.queue_hung_seconds,
        headers=headers,
        host=socket.gethostname(),
        address=address,
    )


class QueuePart:
    """Runs a consumer beside a command. Use it as an async context manager around the command's own work."""

    def __init__(self) -> None:
        self._consumer: Consumer | None = None
        self._running: asyncio.Task[None] | None = None
        self._left = False

    def begin(self, consumer: Consumer | None) -> "QueuePart":
        """Say what it is to run; None: there is no queue."""
        self._consumer = consumer
        return self

    async def __aenter__(self) -> "QueuePart":
        if self._consumer is not None:
            self._running = asyncio.create_task(self._consumer.run(), name="queue")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._consumer is not None and self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            await self._consumer.close(crashed=isinstance(error, EngineError))

    @property
    def hung(self) -> str | None:
        """Say that the engine hangs; None when it does not."""
        return "the engine hangs" if self._consumer is not None and self._consumer.hung else None

    def leave(self) -> None:
        """Take nothing more."""
        self._left = True
        if self._consumer is not None:
            self._consumer.leave()

    def in_flight(self, engine: int) -> int:
        """Give what a drain waits for, of so many requests that the engine has.

        Queued work goes on coming as long as no signal has come: the pod's hook would wait for its end in vain, and
        waits for direct requests alone. Behind the signal it waits for answers that Redis has not taken as well.
        """
        if self._consumer is None:
            return engine
        running = self._consumer.running
        direct = max(engine - running, 0)
        return direct + self._consumer.unfinished if self._left else direct

    def render(self) -> str:
        """Give its metrics in Prometheus' text format."""
        return "" if self._consumer is None else self._consumer.metrics.render()
