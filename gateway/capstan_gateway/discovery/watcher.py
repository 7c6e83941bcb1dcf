"""Follows the EndpointSlices of the Services that the operator made."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from capstan_gateway.discovery.slices import Address, ServicePort, Slice, addresses, read_slice
from capstan_gateway.kubeapi.client import Json, KubeClient
from capstan_gateway.kubeapi.reflector import Reflector, name_of
from capstan_gateway.life.refusals import Refusals

SOURCE: Final = "endpointslices"
SELECTOR: Final = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
"""EndpointSlices inherit the labels of their Service."""


class SliceIndex:
    """All known slices, by Service; says which Service changed. What it knows survives an absent API."""

    def __init__(self, notify: Callable[[str, str], None], refusals: Refusals | None = None) -> None:
        self._notify = notify
        self._refusals = refusals or Refusals()
        self._services: dict[tuple[str, str], dict[str, Slice]] = {}
        self._places: dict[str, tuple[str, str]] = {}
        """Of which Service each slice is, by the slice's id: its label may change."""

    def addresses(self, key: ServicePort) -> tuple[Address, ...]:
        """The ready addresses of a Service's port."""
        return addresses(self._services.get((key.namespace, key.service), {}).values(), key)

    def replace(self, items: Sequence[Json], *, namespace: str | None) -> None:
        """These are all slices of this namespace (None: of the cluster)."""
        fresh: dict[tuple[str, str], dict[str, Slice]] = {}
        within = "" if namespace is None else f"{namespace}/"
        self._refusals.retain(SOURCE, {name_of(item) for item in items}, within=within)
        for item in items:
            found = self._read(item)
            if found is not None:
                fresh.setdefault((found.namespace, found.service), {})[found.name] = found
        old = {key for key in self._services if namespace in (None, key[0])}
        for key in old - fresh.keys():
            del self._services[key]
        self._services.update(fresh)
        self._places = {one.id: service for service, slices in self._services.items() for one in slices.values()}
        for service in old | fresh.keys():
            self._notify(*service)

    def change(self, kind: str, item: Json) -> None:
        """One slice was added, modified or deleted."""
        found = self._read(item)
        if kind == "DELETED":
            self._refusals.accept(SOURCE, name_of(item))
        key = None if found is None or kind == "DELETED" else (found.namespace, found.service)
        former = self._places.get(name_of(item))
        if former is not None and former != key:
            self._forget(name_of(item), former)
        if found is not None and key is not None:
            self._services.setdefault(key, {})[found.name] = found
            self._places[found.id] = key
            self._notify(*key)

    def _forget(self, slice_id: str, service: tuple[str, str]) -> None:
        """The slice is gone, or belongs to that Service no more, whatever it says now."""
        del self._places[slice_id]
        slices = self._services[service]
        del slices[slice_id.partition("/")[2]]
        if not slices:
            del self._services[service]
        self._notify(*service)

    def _read(self, item: Json) -> Slice | None:
        """Read a slice. Of one that cannot be read, what it said last is still believed."""
        name = name_of(item)
        try:
            found = read_slice(item)
        except Exception as error:  # noqa: BLE001 - it is logged there; no object may end the watch
            self._refusals.refuse(SOURCE, name, error)
            return next((one for slices in self._services.values() for one in slices.values() if one.id == name), None)
        self._refusals.accept(SOURCE, name)
        return found


class SliceWatcher:
    """Keeps a SliceIndex as the cluster is, with one watch for the cluster or one for each namespace."""

    def __init__(
        self,
        client: KubeClient,
        index: SliceIndex,
        *,
        namespaces: Sequence[str],
        rng: random.Random,
        refusals: Refusals | None = None,
    ) -> None:
        self._index = index
        self._refusals = refusals
        self._missing: set[str | None] = set(namespaces or (None,))
        self._reflectors = [self._reflector(client, namespace, rng) for namespace in namespaces or (None,)]

    @property
    def synced(self) -> bool:
        """Whether every watch has had its first list."""
        return not self._missing

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())

    def _reflector(self, client: KubeClient, namespace: str | None, rng: random.Random) -> Reflector:
        def replaced(items: list[Json]) -> None:
            self._index.replace(items, namespace=namespace)
            self._missing.discard(namespace)

        where = f"/namespaces/{namespace}" if namespace else ""
        return Reflector(
            client,
            f"/apis/discovery.k8s.io/v1{where}/endpointslices",
            {"labelSelector": SELECTOR},
            replaced=replaced,
            changed=self._index.change,
            rng=rng,
            refusals=self._refusals,
        )
