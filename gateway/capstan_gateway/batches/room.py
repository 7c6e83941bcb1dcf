"""Files and batches of one gateway, made of its settings."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

from capstan_gateway.batches.files import FileBounds, Files
from capstan_gateway.batches.means import Means
from capstan_gateway.batches.objects import Objects
from capstan_gateway.batches.port import Asks
from capstan_gateway.batches.runner import Runner
from capstan_gateway.batches.state import Batches
from capstan_gateway.batches.turns import Turns
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.settings import Settings
from capstan_gateway.stores.port import KeyStore
from capstan_gateway.telemetry.cells import NumberFamily
from capstan_gateway.telemetry.metrics import Metrics


class BatchRoom:
    """What there is where a gateway has a place for files, and a Redis."""

    def __init__(
        self, settings: Settings, url: str, store: KeyStore, *, metrics: Metrics, budget: MemoryBudget, rng: Random
    ) -> None:
        bounds = FileBounds(
            file_bytes=settings.file_bytes, files=settings.files, files_bytes=settings.files_bytes,
            seconds=settings.file_seconds,
        )  # fmt: skip
        self.files: Final = Files(store, Objects(url), bounds)
        self.batches: Final = Batches(store, most=settings.batches, seconds=settings.file_seconds)
        self._settings = settings
        self._metrics = metrics
        self._budget = budget
        self._rng = rng
        self.threads: Final = Threads("batches", queued=64)
        """For what is read and written beside the loop."""
        self.most_lines: Final = settings.batch_lines
        self.most_line_bytes: Final = settings.max_body_bytes
        self._asks: asyncio.Future[Asks] = asyncio.get_running_loop().create_future()

    def begin(self, asks: Asks) -> None:
        """Work on batches from now on: there is somebody to ask."""
        if not self._asks.done():
            self._asks.set_result(asks)

    async def run(self) -> None:
        """Work for ever."""
        settings, metrics = self._settings, self._metrics
        means = Means(
            batches=self.batches, files=self.files, asks=await asyncio.shield(self._asks),
            turns=Turns(settings.batch_concurrency), threads=self.threads, budget=self._budget,
            most_lines=settings.batch_lines, most_line_bytes=settings.max_body_bytes,
            concurrency=settings.batch_concurrency, count_line=_counting(metrics.batch_lines),
            count_batch=_counting(metrics.batches),
        )  # fmt: skip
        runner = Runner(means, rng=self._rng, running=metrics.batches_running.at())
        async with asyncio.TaskGroup() as group:
            group.create_task(runner.run(), name="batches")
            group.create_task(runner.sweep(), name="files")

    def close(self) -> None:
        """End the thread."""
        self.threads.close()


def _counting(family: NumberFamily) -> Callable[[str], None]:
    def count(label: str) -> None:
        family.at(label).value += 1

    return count
