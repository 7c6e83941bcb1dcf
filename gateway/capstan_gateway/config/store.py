"""The config in use: offered documents are checked and compiled aside, then swapped in with one assignment."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from capstan_contract.config import ConfigError, ConfigReport, GatewayConfig, join_config
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

DIRECTORY: Final = "directory"
KUBERNETES: Final = "kubernetes"


class ConfigStore:
    """Holds the Runtime that new requests take. On any error the last good one stays, and the error is shown.

    With two sources the Kubernetes API wins over the directory as soon as it has delivered: files that the kubelet
    mounts lag behind by a minute, and must not bring an old config back.
    """

    def __init__(self, build: Callable[[GatewayConfig, Runtime | None], Runtime], metrics: Metrics) -> None:
        self._build = build
        self._metrics = metrics
        self._source: str | None = None
        self.runtime: Runtime | None = None
        self.error: str | None = None

    async def offer(self, documents: Mapping[str, str | bytes], *, source: str) -> bool:
        """Use these documents, if they are a config; says whether they are in use now. Never raises for bad content.

        Checking a config of a thousand models takes a good part of a second; requests go on meanwhile.
        """
        try:
            config = await asyncio.to_thread(join_config, documents)
        except ConfigError as error:
            self.reject(str(error), source=source)
            return False
        if self._source == KUBERNETES and source == DIRECTORY:
            return False
        if self.runtime is None or self.runtime.hash != config.hash:
            try:
                runtime = self._build(config, self.runtime)
            except Exception as error:
                # A bug, since the config is valid; but the same config reaches every replica, and none must end by it.
                log.exception("a config could not be compiled", extra={"source": source})
                self.reject(f"the config could not be compiled: {type(error).__name__}", source=source)
                return False
            self._swap(runtime, source)
        self._source = source
        self.error = None
        self._metrics.config_success.at().value = 1
        return True

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
            return ConfigReport(hash=None, generations={}, error=self.error)
        return ConfigReport(hash=self.runtime.hash, generations=self.runtime.generations, error=self.error)

    def _swap(self, runtime: Runtime, source: str) -> None:
        self.runtime = runtime
        names = {model.name for model in runtime.models.values()}
        if runtime.auto is not None:
            names.add(runtime.auto.name)
        self._metrics.retain_models(names)
        self._metrics.config_info.cells.clear()
        self._metrics.config_info.at(runtime.hash).value = 1
        self._metrics.config_reloads.at("success").value += 1
        for model in runtime.models.values():
            self._metrics.config_generation.at(model.name).value = runtime.generations[model.id]
        log.info("swapped the config", extra={"config_hash": runtime.hash, "models": len(names), "source": source})
