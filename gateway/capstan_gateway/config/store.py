"""The config in use: offered documents are checked and compiled aside, then swapped in with one assignment."""

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from capstan_contract.config import ConfigError, ConfigReport, GatewayConfig
from capstan_contract.reading import ConfigReader, Reading
from capstan_contract.requirements import KNOWN, Known
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.life.threads import Threads
from capstan_gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

DIRECTORY: Final = "directory"
KUBERNETES: Final = "kubernetes"
MOST_NAMED: Final = 20
"""Refused entries that the log names; all are at /internal/config."""
SLICE_SECONDS: Final = 0.001
"""How long a config is worked on at a stretch before requests have their turn."""


def _nothing() -> None:
    """Change nothing."""


class Prepared(NamedTuple):
    """A config that is compiled aside: nothing that is in use knows of it yet."""

    runtime: Runtime
    commit: Callable[[], None] = _nothing
    """Changes what outlives configs, in the turn of the loop in which the Runtime is taken into use; never before."""


Build = Callable[[GatewayConfig, Runtime | None], Generator[None, None, Prepared]]
"""Compiles a config in steps, each as small as one model. It changes nothing: it may be given up at any step."""


class ConfigStore:
    """Holds the Runtime that new requests take. On any error the last good one stays, and the error is shown.

    With two sources the Kubernetes API wins over the directory as soon as it has delivered: files that the kubelet
    mounts lag behind by a minute, and must not bring an old config back.
    """

    def __init__(self, build: Build, metrics: Metrics, known: Known = KNOWN) -> None:
        self._build = build
        self._metrics = metrics
        self._reader = ConfigReader(rest=_rests(SLICE_SECONDS), known=known)
        self._threads = Threads("config")
        self._compiling = asyncio.Lock()
        self._source: str | None = None
        self._reported: Mapping[str, int] = {}
        self.runtime: Runtime | None = None
        self.refused: Mapping[str, tuple[str, ...]] = {}
        self.error: str | None = None

    async def offer(self, documents: Mapping[str, str | bytes], *, source: str) -> bool:
        """Use these documents, if they are a config; says whether they are in use now. Never raises.

        Requests go on meanwhile: the config is checked in a thread, and compiled in slices.
        """
        try:
            reading = await self._threads.run(self._reader.read, documents)
        except ConfigError as error:
            self.reject(str(error), source=source)
            return False
        except Exception as error:
            # A bug in reading. Whoever follows the source must not end by it: the next config may be a good one.
            log.exception("a config could not be read", extra={"source": source})
            self.reject(f"the config could not be read: {type(error).__name__}", source=source)
            return False
        async with self._compiling:
            return await self._use(reading, source)

    async def _use(self, reading: Reading, source: str) -> bool:
        if self._source == KUBERNETES and source == DIRECTORY:
            return False
        if self.runtime is None or self.runtime.hash != reading.config.hash:
            try:
                prepared = await self._compile(reading.config)
            except Exception as error:
                # A bug, since the config is valid; but the same config reaches every replica, and none must end by it.
                log.exception("a config could not be compiled", extra={"source": source})
                self.reject(f"the config could not be compiled: {type(error).__name__}", source=source)
                self._forget_metrics()
                return False
            self._swap(prepared, reading, source)
        self._source = source
        self.error = None
        self._metrics.config_success.at().value = 1
        return True

    async def _compile(self, config: GatewayConfig) -> Prepared:
        steps = self._build(config, self.runtime)
        turn = time.monotonic()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                prepared: Prepared = end.value
                return prepared
            if time.monotonic() - turn > SLICE_SECONDS:
                await asyncio.sleep(0)
                turn = time.monotonic()

    def reject(self, reason: str, *, source: str) -> None:
        """Show why the newest config is not in use."""
        if self._source == KUBERNETES and source == DIRECTORY:
            return
        if reason != self.error:
            log.error("kept the last good config", extra={"reason": reason, "source": source})
            self._metrics.config_reloads.at("error").value += 1
        self.error = reason
        self._metrics.config_success.at().value = 0

    def report(self) -> ConfigReport:
        """Give what /internal/config says."""
        if self.runtime is None:
            return ConfigReport(hash=None, error=self.error)
        return ConfigReport(
            hash=self.runtime.hash, generations=dict(self._reported), error=self.error, refused=dict(self.refused)
        )

    def _swap(self, prepared: Prepared, reading: Reading, source: str) -> None:
        runtime = prepared.runtime
        prepared.commit()
        self.runtime = runtime
        self.refused = reading.refused
        self._reported = {entry.id: entry.generation for entry in reading.config.models if entry.generation}
        names = self._forget_metrics()
        self._metrics.config_info.cells.clear()
        self._metrics.config_info.at(runtime.hash).value = 1
        self._metrics.config_reloads.at("success").value += 1
        self._metrics.config_refused.at().value = len(self.refused)
        for entry, objections in islice(self.refused.items(), MOST_NAMED):
            log.error("refused an entry of the config", extra={"entry": entry, "reason": ", ".join(objections)})
        log.info("swapped the config", extra={"config_hash": runtime.hash, "models": names, "source": source})

    def _forget_metrics(self) -> int:
        """Keep the metrics of the models in use only; give how many there are."""
        runtime = self.runtime
        names = set() if runtime is None else {model.name for model in runtime.models.values()}
        if runtime is not None and runtime.auto is not None:
            names.add(runtime.auto.name)
        self._metrics.retain_models(names)
        return len(names)


def _rests(seconds: float) -> Callable[[], None]:
    """Give a function that lets the other threads run when its caller has worked for so long.

    The interpreter would take five times that long before it interrupts a thread.
    """
    turn = time.monotonic()

    def rest() -> None:
        nonlocal turn
        if time.monotonic() - turn > seconds:
            time.sleep(0)
            turn = time.monotonic()

    return rest
