"""An API server in memory for tests of what stands on KubePort: objects, resourceVersions, faults, counts. No I/O."""

import asyncio
import copy
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from capstan_operator.kube.errors import KubeError, NotFound
from capstan_operator.kube.port import Listing
from capstan_operator.kube.versions import Versions
from capstan_operator.names import FIELD_MANAGER, STATUS_MANAGER
from capstan_operator.resources.api_resource import BUILT_IN, ApiResource, resource_of
from capstan_operator.resources.resource import Manifest

Fault = KubeError | Callable[[], Awaitable[None]]
"""What a call raises, or what it waits for first."""


class FakeKube:
    """Implements KubePort. A LIST may be answered from a cache that is behind: `cached_at`."""

    def __init__(self, *others: ApiResource) -> None:
        self._resources = (*BUILT_IN, *others)
        self._versions = Versions()
        self._version = 100
        self.objects: dict[tuple[str, str, str], Manifest] = {}
        self.owners: dict[tuple[str, str, str, str], str] = {}
        """Manager of each key of `data`, by (plural, namespace, name, key)."""
        self.faults: dict[tuple[str, str, str, str], Fault] = {}
        """By (verb, plural, namespace, name); "*" is any name."""
        self.calls: Counter[tuple[str, str]] = Counter()
        self.reading = 0
        self.most_reading = 0
        self.on_apply: Callable[[Manifest], None] = lambda _: None

    @property
    def versions(self) -> Versions:
        """See KubePort."""
        return self._versions

    def put(self, manifest: Manifest) -> Manifest:
        """Make or replace an object, as somebody else would."""
        self._version += 1
        kind, metadata = resource_of(manifest, self._resources), manifest["metadata"]
        stored = copy.deepcopy(manifest)
        stored["metadata"]["resourceVersion"] = str(self._version)
        self.objects[kind.plural, metadata.get("namespace", ""), metadata["name"]] = stored
        return stored

    def drop(self, kind: ApiResource, name: str, namespace: str = "") -> None:
        """Delete an object, as somebody else would."""
        self._version += 1
        self.objects.pop((kind.plural, namespace, name))

    async def list(
        self,
        kind: ApiResource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        shape: Callable[[Manifest], Any] | None = None,
        known: Callable[[str, str], Any] | None = None,
    ) -> Listing:
        """See KubePort; selectors are ignored."""
        await self._meet("list", kind, namespace or "", "")
        items = [
            _taken(item, shape, known)
            for (plural, where, _), item in sorted(self.objects.items())
            if plural == kind.plural and namespace in (None, where)
        ]
        self._versions.listed(kind, str(self._version))
        return Listing(items, str(self._version))

    async def get(self, kind: ApiResource, name: str, *, namespace: str | None = None) -> Manifest:
        """See KubePort."""
        await self._meet("get", kind, namespace or "", name)
        found = self.objects.get((kind.plural, namespace or "", name))
        if found is None:
            raise NotFound(f"{kind.plural} {name} not found", status=404)
        return copy.deepcopy(found)

    async def apply(self, manifest: Manifest, *, manager: str = FIELD_MANAGER, force: bool = True) -> Manifest:
        """See KubePort. Of fields, only those of `data` have managers, and annotations stay; the rest is replaced."""
        kind, metadata = resource_of(manifest, self._resources), manifest["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        await self._meet("apply", kind, namespace, name)
        live = self.objects.get((kind.plural, namespace, name)) or {}
        data = {
            key: value
            for key, value in (live.get("data") or {}).items()
            if self.owners.get((kind.plural, namespace, name, key)) != manager
        }
        for key in manifest.get("data") or {}:
            self.owners[kind.plural, namespace, name, key] = manager
        annotations = {
            **((live.get("metadata") or {}).get("annotations") or {}),
            **(metadata.get("annotations") or {}),
        }
        written = self.put(
            {
                **manifest,
                "metadata": {**metadata, "annotations": annotations},
                "data": {**data, **(manifest.get("data") or {})},
            }
        )
        self.on_apply(manifest)
        self._versions.wrote(kind, written)
        return copy.deepcopy(written)

    async def apply_status(self, manifest: Manifest, *, manager: str = STATUS_MANAGER) -> Manifest:
        """See KubePort."""
        return await self.apply(manifest, manager=manager)

    async def delete(
        self, kind: ApiResource, name: str, *, namespace: str | None = None, uid: str | None = None
    ) -> None:
        """See KubePort; the uid is not looked at."""
        await self._meet("delete", kind, namespace or "", name)
        self.objects.pop((kind.plural, namespace or "", name), None)

    async def _meet(self, verb: str, kind: ApiResource, namespace: str, name: str) -> None:
        self.calls[verb, kind.plural] += 1
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        try:
            await asyncio.sleep(0)
            fault = self.faults.get((verb, kind.plural, namespace, name)) or self.faults.get(
                (verb, kind.plural, namespace, "*")
            )
            if isinstance(fault, KubeError):
                raise fault
            if fault is not None:
                await fault()
        finally:
            self.reading -= 1


def _taken(item: Manifest, shape: Callable[[Manifest], Any] | None, known: Callable[[str, str], Any] | None) -> Any:
    """Give what a LIST keeps of an item."""
    metadata = item["metadata"]
    found = known(metadata.get("uid") or "", metadata.get("resourceVersion") or "") if known else None
    if found is not None:
        return found
    return shape(copy.deepcopy(item)) if shape else copy.deepcopy(item)
