"""LISTs into a Snapshot: few calls whatever the number of keys, never one per object.

The keys of a batch are listed together: one LIST per kind and namespace with `capstan.dev/model in (...)`, or one per
kind for the whole cluster when the batch spans many namespaces. Only models of a small batch are fetched one by one,
because a custom resource cannot be selected by a set of names.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL
from capstan_operator.api.kinds import LLM_MODELS, Model
from capstan_operator.desired.members import named_members
from capstan_operator.desired.snapshot import NodeCapacity, Snapshot
from capstan_operator.desired.volumes import named_claims
from capstan_operator.kube.errors import Forbidden, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.loaders.capacity import free_capacity, gpu_nodes
from capstan_operator.loaders.parser import ModelParser as ModelParser
from capstan_operator.resources.api_resource import CHILD_RESOURCES, CLAIMS, NODES, PODS, ApiResource
from capstan_operator.resources.resource import Manifest, ObjectKey

MANY_NAMESPACES: Final = 6
FEW_MODELS: Final = 16
MANY_NODES: Final = 20
LIVE_PODS: Final = "status.phase!=Succeeded,status.phase!=Failed"


class SnapshotLoader:
    """Reads what a reconcile needs."""

    def __init__(self, kube: KubePort, parser: ModelParser, *, namespaces: Sequence[str] = ()) -> None:
        self._kube = kube
        self._parser = parser
        self._namespaces = tuple(namespaces)

    async def load(self, keys: Iterable[ObjectKey]) -> Snapshot:
        """List the models of `keys`, and what belongs to them; a key whose model is gone is not in the Snapshot.

        Of the members of virtual models only the models themselves are read.
        """
        names = _names_by_namespace(keys)
        models, listed = await asyncio.gather(
            self._models(names), asyncio.gather(*(self._owned(kind, names) for kind in (*CHILD_RESOURCES, PODS)))
        )
        children: defaultdict[ObjectKey, list[Manifest]] = defaultdict(list)
        for found in listed[:-1]:
            for key, manifests in found.items():
                children[key] += manifests
        return Snapshot(
            models={**models, **await self._members(models)},
            children={key: tuple(found) for key, found in children.items()},
            pods={key: tuple(found) for key, found in listed[-1].items()},
            claims=await self._claims(models.values()),
        )

    async def all_models(self) -> list[Model]:
        """Every LLMModel of the namespaces that the operator works in."""
        pages = await asyncio.gather(*(self._kube.list(LLM_MODELS, namespace=n) for n in self._namespaces or (None,)))
        models = [self._parser.parse(item) for page in pages for item in page.items]
        self._parser.keep_only(model.uid for model in models)
        return models

    async def capacity(self, resources: Iterable[str]) -> tuple[NodeCapacity, ...] | None:
        """What nodes offer of the extended resources, minus what their pods request; None when RBAC forbids to look."""
        try:
            nodes = gpu_nodes((await self._kube.list(NODES)).items, frozenset(resources))
            if len(nodes) > MANY_NODES:
                pods = list((await self._kube.list(PODS, field_selector=LIVE_PODS)).items)
            else:
                pods = await self._pods_on(node["metadata"]["name"] for node in nodes)
        except Forbidden:
            return None
        return free_capacity(nodes, pods, frozenset(resources))

    async def _pods_on(self, names: Iterable[str]) -> list[Manifest]:
        selectors = [f"spec.nodeName={name},{LIVE_PODS}" for name in names]
        pages = await asyncio.gather(*(self._kube.list(PODS, field_selector=selector) for selector in selectors))
        return [pod for page in pages for pod in page.items]

    async def _models(self, names: Mapping[str, set[str]]) -> dict[ObjectKey, Model]:
        wanted = {ObjectKey(namespace, name) for namespace, group in names.items() for name in group}
        if len(wanted) <= FEW_MODELS:
            found = await asyncio.gather(*(self._model(key) for key in sorted(wanted)))
            return {model.key: model for model in found if model is not None}
        pages = await asyncio.gather(*(self._kube.list(LLM_MODELS, namespace=n) for n in self._scopes(names)))
        keyed = ((_key(item), item) for page in pages for item in page.items)
        return {key: self._parser.parse(item) for key, item in keyed if key in wanted}

    async def _members(self, models: Mapping[ObjectKey, Model]) -> dict[ObjectKey, Model]:
        """Read the models that virtual ones name and that are not read yet."""
        named = {member for model in models.values() for _, member in named_members(model)}
        missing = named - models.keys()
        return await self._models(_names_by_namespace(missing)) if missing else {}

    async def _model(self, key: ObjectKey) -> Model | None:
        try:
            return self._parser.parse(await self._kube.get(LLM_MODELS, key.name, namespace=key.namespace))
        except NotFound:
            return None

    async def _owned(self, kind: ApiResource, names: Mapping[str, set[str]]) -> dict[ObjectKey, tuple[Manifest, ...]]:
        """List what carries our labels and names one of the models."""
        scopes = self._scopes(names)
        pages = await asyncio.gather(
            *(self._kube.list(kind, namespace=scope, label_selector=_selector(names, scope)) for scope in scopes)
        )
        found: defaultdict[ObjectKey, list[Manifest]] = defaultdict(list)
        for page in pages:
            for item in page.items:
                found[ObjectKey(item["metadata"]["namespace"], item["metadata"]["labels"][MODEL_LABEL])].append(item)
        return {key: tuple(items) for key, items in found.items()}

    async def _claims(self, models: Iterable[Model]) -> dict[ObjectKey, Manifest]:
        wanted = sorted({ObjectKey(model.key.namespace, claim) for model in models for claim in named_claims(model)})
        pages = await asyncio.gather(
            *(
                self._kube.list(CLAIMS, namespace=key.namespace, field_selector=f"metadata.name={key.name}")
                for key in wanted
            )
        )
        return {_key(item): item for page in pages for item in page.items}

    def is_cluster_wide(self, keys: Iterable[ObjectKey]) -> bool:
        """Whether what belongs to `keys` is listed in the whole cluster at once, not in each namespace."""
        return self._scopes(_names_by_namespace(keys)) == (None,)

    def _scopes(self, names: Mapping[str, set[str]]) -> tuple[str | None, ...]:
        if len(names) > MANY_NAMESPACES and not self._namespaces:
            return (None,)
        return tuple(sorted(names))


def _names_by_namespace(keys: Iterable[ObjectKey]) -> dict[str, set[str]]:
    names: defaultdict[str, set[str]] = defaultdict(set)
    for key in keys:
        names[key.namespace].add(key.name)
    return dict(names)


def _selector(names: Mapping[str, set[str]], scope: str | None) -> str:
    wanted = set().union(*names.values()) if scope is None else names[scope]
    return f"{MANAGED_BY_LABEL}={MANAGED_BY},{MODEL_LABEL} in ({','.join(sorted(wanted))})"


def _key(manifest: Manifest) -> ObjectKey:
    return ObjectKey(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
