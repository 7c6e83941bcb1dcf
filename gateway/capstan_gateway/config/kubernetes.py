"""The config from a ConfigMap and its shards, watched through the Kubernetes API: a change arrives at once."""

import asyncio
import logging
import random
from typing import Final

from capstan_contract.config import ConfigError
from capstan_contract.names import CONFIG_FILE, shard_object
from capstan_contract.sharding import shards_named_by
from capstan_gateway.config.store import KUBERNETES, ConfigStore
from capstan_gateway.kubeapi.client import Json, KubeClient, KubeError
from capstan_gateway.kubeapi.reflector import Reflector
from capstan_gateway.life.refusals import Refusals

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits between attempts to read shards that do not fit the index yet; the last one repeats."""
_SHARDS: Final = '"shards"'


class ConfigMapSource:
    """Offers the config whenever its ConfigMap changes. Only the newest version is worked on."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        store: ConfigStore,
        rng: random.Random,
        refusals: Refusals | None = None,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._store = store
        self._latest: dict[str, str] | None = None
        self._arrived = asyncio.Event()
        self._reflector = Reflector(
            client,
            f"/api/v1/namespaces/{namespace}/configmaps",
            {"fieldSelector": f"metadata.name={name}"},
            replaced=self._replaced,
            changed=self._changed,
            rng=rng,
            refusals=refusals,
        )

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reflector.run())
            group.create_task(self._work())

    def _replaced(self, items: list[Json]) -> None:
        if items:
            self._changed("MODIFIED", items[0])
        else:
            self._store.reject(f"ConfigMap {self._namespace}/{self._name} does not exist", source=KUBERNETES)

    def _changed(self, kind: str, item: Json) -> None:
        if kind == "DELETED":
            self._latest = None
            self._store.reject(f"ConfigMap {self._namespace}/{self._name} was deleted", source=KUBERNETES)
            return
        data = item.get("data") or {}
        if not isinstance(data, dict) or not all(isinstance(text, str) for text in data.values()):
            self._store.reject(f"ConfigMap {self._namespace}/{self._name} does not hold texts", source=KUBERNETES)
            return
        self._latest = data
        self._arrived.set()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            attempt = 0
            while (main := self._latest) is not None and not await self._take(main):
                # Shards are written before the index, but reads of several objects are not one read. A newer version
                # ends the wait.
                delay = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                attempt += 1
                try:
                    async with asyncio.timeout(delay):
                        await self._arrived.wait()
                except TimeoutError:
                    continue
                self._arrived.clear()
                attempt = 0

    async def _take(self, main: dict[str, str]) -> bool:
        """Offer one version; False when trying the same one again may help."""
        text = main.get(CONFIG_FILE, "")
        try:
            # A config that is not split may be large, and is parsed beside the loop.
            shards = shards_named_by(text) if _SHARDS in text else ()
        except ConfigError as error:
            self._store.reject(str(error), source=KUBERNETES)
            return True
        documents: dict[str, str | bytes] = dict(main)
        # At once: a key that is revoked counts until all of them are here.
        found = await asyncio.gather(*(self._shard(file) for file in shards), return_exceptions=True)
        for file, text_or_error in zip(shards, found, strict=True):
            if isinstance(text_or_error, KubeError):
                self._store.reject(f"{file} could not be read: {text_or_error}", source=KUBERNETES)
                return False
            if isinstance(text_or_error, BaseException):
                raise text_or_error
            documents[file] = text_or_error
        return await self._store.offer(documents, source=KUBERNETES) or not shards

    async def _shard(self, file: str) -> str:
        name = shard_object(self._name, file)
        item = await self._client.get(f"/api/v1/namespaces/{self._namespace}/configmaps/{name}")
        text = (item.get("data") or {}).get(file)
        if not isinstance(text, str):
            raise KubeError(f"ConfigMap {name} has no {file}")
        return text
