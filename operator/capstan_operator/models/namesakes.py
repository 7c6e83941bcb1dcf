"""Whose the objects are that have the names, or the labels, of a model's children.

Children are listed by our labels, so an object of somebody else, and one of ours that lost its labels, look absent.
Server-side apply would merge with either of them in silence, unless a field is in conflict. So a name is looked up
before the first write to it: one by one for a few, all names of a kind in one LIST (of metadata only) for many. At rest
every child is there, and nothing is looked up.

Labels alone make nothing ours: anybody can copy them.

    the model owns it                                       its child, with or without labels
    it has our labels and nobody owns it, but the operator  its child: left by a deletion that orphans, or by a backup
      has applied it (the annotation with the hash)           that was restored
    anything else                                           somebody else's: neither written to nor deleted
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

from capstan_contract.names import API_VERSION, APPLIED_HASH_ANNOTATION
from capstan_operator.api.kinds import Model
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import ApiResource, resource_of
from capstan_operator.resources.resource import Manifest, is_owned

FEW_LOOKUPS: Final = 8
"""Names of one kind that one batch looks up one by one, which the API server answers from a single key."""

_Names = dict[tuple[str, str], Manifest]


class Namesakes:
    """Looks names up for one batch of models. The few LISTs that it makes are shared by the whole batch."""

    def __init__(self, kube: KubePort, *, cluster_wide: bool) -> None:
        self._kube = kube
        self._cluster_wide = cluster_wide
        self._lookups: Counter[ApiResource] = Counter()
        self._locks: defaultdict[ApiResource, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._listed: dict[tuple[ApiResource, str | None], _Names] = {}

    async def find(self, model: Model, wanted: Iterable[Manifest]) -> tuple[Manifest, ...]:
        """Give the objects that have the names of the wanted ones: whole when the model owns them, else perhaps only
        their metadata."""
        found = await asyncio.gather(
            *(self._find(model, resource_of(manifest), manifest["metadata"]["name"]) for manifest in wanted)
        )
        return tuple(manifest for manifest in found if manifest is not None)

    async def _find(self, model: Model, kind: ApiResource, name: str) -> Manifest | None:
        namespace = model.key.namespace
        self._lookups[kind] += 1
        if self._lookups[kind] <= FEW_LOOKUPS:
            return await self._look_up(kind, namespace, name)
        found = (await self._names(kind, namespace)).get((namespace, name))
        return await self._look_up(kind, namespace, name) if found and is_owned(found, model.uid) else found

    async def _look_up(self, kind: ApiResource, namespace: str, name: str) -> Manifest | None:
        # A LIST of one name, not a GET: the operator may list its children's kinds, and needs no other right to read.
        page = await self._kube.list(kind, namespace=namespace, field_selector=f"metadata.name={name}")
        return next(iter(page.items), None)

    async def _names(self, kind: ApiResource, namespace: str) -> _Names:
        scope = None if self._cluster_wide else namespace
        async with self._locks[kind]:
            if (kind, scope) not in self._listed:
                page = await self._kube.list(kind, namespace=scope, metadata_only=True)
                self._listed[kind, scope] = {
                    (item["metadata"]["namespace"], item["metadata"]["name"]): item for item in page.items
                }
            return self._listed[kind, scope]


def is_child(labelled: Manifest, uid: str) -> bool:
    """Whether an object that carries our labels is a child of the LLMModel with this uid."""
    metadata = labelled["metadata"]
    orphan = not metadata.get("ownerReferences")
    return is_owned(labelled, uid) or (orphan and APPLIED_HASH_ANNOTATION in (metadata.get("annotations") or {}))


def is_another_models(manifest: Manifest, uid: str) -> bool:
    """Whether another LLMModel owns the object: mostly a former one of the same name, which it goes with."""
    owners = manifest["metadata"].get("ownerReferences") or ()
    return any(owner.get("apiVersion") == API_VERSION and owner.get("uid") != uid for owner in owners)
