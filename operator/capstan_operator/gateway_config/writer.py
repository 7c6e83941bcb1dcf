"""Writing the gateway config's ConfigMaps.

What this process has written it need not read again: a LIST of metadata says whether somebody else has written since.
Every write says which version it replaces: an operator that was overtaken between its look and its writes fails before
it touches the index. A shard that it has written until then is put right by the next look of the one with the lease.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping

from capstan_contract.config import ConfigError, ConfigTooLargeError, GatewayConfig
from capstan_contract.names import SHARD_BYTES
from capstan_contract.reading import join_config
from capstan_operator.desired.config_maps import CONFIG_SELECTOR, documents_of, plan_writes
from capstan_operator.errors import Terminal
from capstan_operator.kube.port import KubePort
from capstan_operator.names import RELEASE_MANAGER
from capstan_operator.resources.api_resource import CONFIG_MAPS
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import Settings
from capstan_operator.status.types import CONFIG_TOO_LARGE

log = logging.getLogger(__name__)


class ConfigWriter:
    """Keeps the ConfigMaps in step with the config; one call is served after the other."""

    def __init__(self, kube: KubePort, settings: Settings, *, shard_bytes: int = SHARD_BYTES) -> None:
        self._kube = kube
        self._settings = settings
        self._shard_bytes = shard_bytes
        self._live: dict[str, Manifest] = {}
        """What is there, as of the last look or write, by name."""
        self._turn = asyncio.Lock()
        self._is_loaded = False
        self.written: GatewayConfig | None = None
        """The config that is written, as far as this process knows."""

    async def load(self) -> GatewayConfig | None:
        """Give the live config, whoever has written it; None when there is none that can be read."""
        async with self._turn:
            await self._look()
            await self._read_config()
            self._is_loaded = True
            return self.written

    @property
    def index(self) -> Manifest | None:
        """The live object that names the config's parts, or has all of it; None when there is none."""
        return self._live.get(self._settings.gateway_config_name)

    async def look(self) -> None:
        """Take in what somebody else has written since."""
        async with self._turn:
            if not await self._look() or self.written is None or not self._is_loaded:
                await self._read_config()
                self._is_loaded = True

    async def write(self, config: GatewayConfig) -> None:
        """Bring the objects to this config. On an error the live index still names a whole config.

        Raises Terminal when the config does not fit whatever is tried; nothing is written then.
        """
        async with self._turn:
            await self._write(config)

    async def _write(self, config: GatewayConfig) -> None:
        is_as_known = await self._look()
        if not is_as_known or self.written is None:
            await self._read_config()
        elif self.written.hash == config.hash:
            return
        try:
            plan = await asyncio.to_thread(
                plan_writes, config, self._live, self._settings, shard_bytes=self._shard_bytes
            )
        except ConfigTooLargeError as error:
            raise Terminal(CONFIG_TOO_LARGE, str(error)) from error
        await _all(self._apply(shard) for shard in plan.shards)
        if plan.index is not None:
            await self._apply(plan.index)
        self.written = config
        for name in plan.prune:
            await self._kube.delete(CONFIG_MAPS, name, namespace=self._settings.build.install_namespace)
            self._live.pop(name, None)
            log.info("deleted surplus shard of the gateway config", extra={"object": name})

    async def empty_annotation(self, name: str) -> None:
        """Take the value of an annotation of the index that a person has set."""
        async with self._turn:
            await self._empty_annotation(name)

    async def _empty_annotation(self, name: str) -> None:
        index = self._settings.gateway_config_name
        metadata = {
            "name": index,
            "namespace": self._settings.build.install_namespace,
            "resourceVersion": _version(self.index),
            "annotations": {name: ""},
        }
        manifest = {"apiVersion": CONFIG_MAPS.api_version, "kind": CONFIG_MAPS.kind, "metadata": metadata}
        self._live[index] = await self._kube.apply(manifest, manager=RELEASE_MANAGER)

    async def _read_config(self) -> None:
        try:
            self.written = await asyncio.to_thread(join_config, documents_of(self._live, self._settings))
        except ConfigError:
            self.written = None

    async def _look(self) -> bool:
        """Read what somebody else has written since; say whether there was nothing."""
        namespace = self._settings.build.install_namespace
        listing = await self._kube.list(
            CONFIG_MAPS, namespace=namespace, label_selector=CONFIG_SELECTOR, metadata_only=True
        )
        versions = {item["metadata"]["name"]: _version(item) for item in listing.items}
        # An index that has lost its labels is still the one that gateways read.
        versions.setdefault(self._settings.gateway_config_name, None)
        known = {name: item for name, item in self._live.items() if versions.get(name) == _version(item)}
        foreign = sorted(versions.keys() - known.keys())
        gone = self._live.keys() - known.keys() - versions.keys()
        found = await asyncio.gather(*(self._read(name) for name in foreign))
        self._live = known | {name: item for name, item in zip(foreign, found, strict=True) if item is not None}
        return not foreign and not gone

    async def _read(self, name: str) -> Manifest | None:
        listing = await self._kube.list(
            CONFIG_MAPS,
            namespace=self._settings.build.install_namespace,
            field_selector=f"metadata.name={name}",
        )
        return next(iter(listing.items), None)

    async def _apply(self, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        live = self._live.get(name)
        expected = {"resourceVersion": _version(live)} if live is not None else {}
        self._live[name] = await self._kube.apply({**manifest, "metadata": {**manifest["metadata"], **expected}})
        log.info("wrote gateway config", extra={"object": name})


async def _all(writes: Iterable[Awaitable[object]]) -> None:
    """Await all, also when one fails: none goes on after its failure was told."""
    results = await asyncio.gather(*writes, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _version(item: Mapping[str, object] | None) -> object:
    metadata = (item or {}).get("metadata")
    return metadata.get("resourceVersion") if isinstance(metadata, dict) else None
