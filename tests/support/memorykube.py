"""An API server in memory, of one kind and one namespace: versions, preconditions, and a write after which it dies."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

from capstan_operator.kube.errors import Conflict, NotFound
from capstan_operator.kube.port import Listing
from capstan_operator.names import FIELD_MANAGER, STATUS_MANAGER
from capstan_operator.resources.api_resource import ApiResource
from capstan_operator.resources.resource import Manifest


class Died(Exception):
    """The process that writes is dead."""


class MemoryKube:
    """The five verbs over a dict. `lives` is how many writes are still carried out; None: all."""

    def __init__(self) -> None:
        self.objects: dict[str, Manifest] = {}
        self.writes: list[tuple[str, str]] = []
        """(verb, name), in the order in which they were carried out."""
        self.lives: int | None = None
        self.full_reads = 0
        """Objects whose content was sent."""
        self._versions = itertools.count(1)

    async def list(
        self,
        kind: ApiResource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        shape: Callable[[Manifest], Any] = lambda item: item,
        **_: Any,
    ) -> Listing:
        """Give what the selectors fit."""
        labels = dict(part.split("=") for part in label_selector.split(",")) if label_selector else {}
        name = (field_selector or "").removeprefix("metadata.name=")
        found = [
            copy.deepcopy(item)
            for item in self.objects.values()
            if labels.items() <= (item["metadata"].get("labels") or {}).items()
            and name in ("", item["metadata"]["name"])
        ]
        if metadata_only:
            return Listing([{"metadata": item["metadata"]} for item in found], "1")
        self.full_reads += len(found)
        return Listing([shape(item) for item in found], "1")

    async def get(self, kind: ApiResource, name: str, *, namespace: str | None = None) -> Manifest:
        """Give one object."""
        if name not in self.objects:
            raise NotFound(f"{kind.plural} {name} not found", status=404)
        return copy.deepcopy(self.objects[name])

    async def apply(self, manifest: Manifest, *, manager: str = FIELD_MANAGER, force: bool = True) -> Manifest:
        """Replace an object, if it has the version that is expected, but for others' annotations: another manager than
        that of objects writes nothing but these."""
        name, live = manifest["metadata"]["name"], self.objects.get(manifest["metadata"]["name"])
        expected = manifest["metadata"].get("resourceVersion")
        if expected is not None and (live is None or live["metadata"]["resourceVersion"] != expected):
            raise Conflict("the object has been modified")
        self._carry_out("apply", name)
        there = (live or {}).get("metadata") or {}
        annotations = {**(there.get("annotations") or {}), **(manifest["metadata"].get("annotations") or {})}
        whole = manifest if live is None or manager == FIELD_MANAGER else {**live, "metadata": there}
        metadata = {**whole["metadata"], "annotations": annotations, "resourceVersion": str(next(self._versions))}
        self.objects[name] = copy.deepcopy({**whole, "metadata": metadata})
        return copy.deepcopy(self.objects[name])

    async def apply_status(self, manifest: Manifest, *, manager: str = STATUS_MANAGER) -> Manifest:
        """Nothing here has a status."""
        raise NotImplementedError

    async def delete(
        self, kind: ApiResource, name: str, *, namespace: str | None = None, uid: str | None = None
    ) -> None:
        """Delete an object."""
        self._carry_out("delete", name)
        self.objects.pop(name, None)

    def _carry_out(self, verb: str, name: str) -> None:
        if self.lives is not None:
            if self.lives == 0:
                raise Died
            self.lives -= 1
        self.writes.append((verb, name))

    def annotate(self, name: str, annotation: str, value: str) -> None:
        """Set an annotation as somebody else would."""
        metadata = self.objects[name]["metadata"]
        metadata["annotations"] = {**(metadata.get("annotations") or {}), annotation: value}
        metadata["resourceVersion"] = str(next(self._versions))
