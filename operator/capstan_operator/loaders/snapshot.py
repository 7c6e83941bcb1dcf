"""LISTs into a Snapshot: few calls whatever the number of keys, never one per object.

The keys of a batch are listed together: one LIST per kind and namespace with `capstan.dev/model in (...)`, or one per
kind for the whole cluster when the batch spans many namespaces. Models come from the list that everybody shares.

What cannot be read in one namespace costs the models of that namespace this reconcile, and nobody else.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL
from capstan_operator.api.kinds import Model
from capstan_operator.desired.members import named_members
from capstan_operator.desired.mounts import mounted_by, waits_for_mounts
from capstan_operator.desired.replicas import is_scaled
from capstan_operator.desired.rollouts.memory import ROLLOUT
from capstan_operator.desired.rollouts.revisions import has_steps
from capstan_operator.desired.snapshot import NodeCapacity, Snapshot
from capstan_operator.desired.volumes import named_claims
from capstan_operator.errors import OperatorError
from capstan_operator.kube.errors import Forbidden, KubeError, UnknownResource
from capstan_operator.kube.port import KubePort, Listing
from capstan_operator.loaders.capacity import free_capacity, gpu_nodes
from capstan_operator.loaders.model_list import AllModels, ModelList
from capstan_operator.resources.api_resource import (
    AUTOSCALERS,
    CHILD_RESOURCES,
    CLAIMS,
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    INFERENCE_POOLS,
    JOBS,
    KEDA_RESOURCES,
    NODES,
    PODS,
    ApiResource,
)
from capstan_operator.resources.resource import Manifest, ObjectKey

MANY_NAMESPACES: Final = 6
MANY_NODES: Final = 20
MOST_MOUNTED: Final = 64
"""ConfigMaps that are looked for in one batch: the others are when the first ones are there, or at the next look."""
LIVE_PODS: Final = "status.phase!=Succeeded,status.phase!=Failed"


class SnapshotLoader:
    """Reads what a reconcile needs."""

    def __init__(
        self,
        kube: KubePort,
        models: ModelList,
        *,
        cluster_wide: bool = True,
        has_keda: Callable[[], bool] = lambda: False,
        has_pools: Callable[[], bool] = lambda: False,
    ) -> None:
        """`has_keda` says whether the API server knows KEDA's kinds, `has_pools` whether it knows InferencePools."""
        self._kube = kube
        self._models = models
        self._cluster_wide = cluster_wide
        self._has_keda = has_keda
        self._has_pools = has_pools

    async def load(self, keys: Iterable[ObjectKey]) -> Snapshot:
        """List the models of `keys`, and what belongs to them; a key whose model is gone is not in the Snapshot.

        Of the members of virtual models only the models themselves are read. Raises KubeError for what concerns all.
        """
        names = _names_by_namespace(keys)
        unread: dict[ObjectKey, OperatorError] = {}
        models, listed, revisions = await asyncio.gather(
            self._find(_keys_of(names), unread),
            asyncio.gather(*(self._owned(kind, names, unread) for kind in (*CHILD_RESOURCES, PODS))),
            self._revisions(names, unread, metadata_only=True),
        )
        children: defaultdict[ObjectKey, list[Manifest]] = defaultdict(list)
        for found in listed[:-1]:
            for key, manifests in found.items():
                children[key] += manifests
        scaled = [model.key for model in models.values() if _may_be_scaled(model, children.get(model.key, ()))]
        scalers = await self._of_some((AUTOSCALERS,), scaled, unread)
        of_keda = await self._of_some(KEDA_RESOURCES, scaled, unread) if self._has_keda() else None
        pools = await self._of_some((INFERENCE_POOLS,), models, unread) if self._has_pools() else None
        rolling = [model.key for model in models.values() if _may_have_job(model)]
        jobs = await self._of_some((JOBS,), rolling, unread)
        for found in (*(scalers or ()), *(of_keda or ()), *(pools or ()), *(jobs or ())):
            for key, manifests in found.items():
                children[key] += manifests
        return Snapshot(
            autoscalers=scalers is not None,
            scaled_objects=of_keda is not None,
            inference_pools=pools is not None,
            models={**models, **await self._members(models, unread)},
            children={key: tuple(found) for key, found in children.items()},
            pods={key: tuple(found) for key, found in listed[-1].items()},
            revisions=revisions,
            claims=await self._claims(models.values(), unread),
            mounted=await self._mounted(listed[-1]),
            unread=unread,
        )

    async def _of_some(
        self, kinds: Iterable[ApiResource], keys: Iterable[ObjectKey], unread: dict[ObjectKey, OperatorError]
    ) -> list[dict[ObjectKey, tuple[Manifest, ...]]] | None:
        """List what only some models may have, such as what scales them; None where none may, or where that cannot be
        listed at all: it is forbidden, or there is no such kind."""
        names = _names_by_namespace(keys)
        if not names:
            return None
        failed: dict[ObjectKey, OperatorError] = {}
        try:
            found = [await self._owned(kind, names, failed) for kind in kinds]
        except (Forbidden, UnknownResource):
            return None
        if any(isinstance(error, Forbidden | UnknownResource) for error in failed.values()):
            return None
        unread |= failed
        return found

    async def with_templates(self, snapshot: Snapshot, keys: Iterable[ObjectKey]) -> Snapshot:
        """Give the Snapshot with the whole ControllerRevisions of `keys`, which are listed without their data else."""
        unread = dict(snapshot.unread)
        whole = await self._revisions(_names_by_namespace(keys), unread, metadata_only=False)
        known = None if whole is None or snapshot.revisions is None else {**snapshot.revisions, **whole}
        return replace(snapshot, revisions=known, unread=unread)

    async def with_places(self, snapshot: Snapshot) -> Snapshot:
        """Give the Snapshot with the nodes, if RBAC allows to list them."""
        try:
            nodes = (await self._kube.list(NODES)).items
        except KubeError:
            return snapshot
        return replace(snapshot, places={node["metadata"]["name"]: node for node in nodes})

    async def all_models(self) -> AllModels:
        """Every LLMModel of the namespaces that the operator works in, as far as they can be read."""
        return await self._models.all()

    async def find_model(self, key: ObjectKey) -> Model | None:
        """One LLMModel; None when there is none. Raises KubeError."""
        found = (await self._models.find([key])).get(key)
        if isinstance(found, KubeError):
            raise found
        return found

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

    async def _find(self, keys: Iterable[ObjectKey], unread: dict[ObjectKey, OperatorError]) -> dict[ObjectKey, Model]:
        found = await self._models.find(keys)
        unread |= {key: error for key, error in found.items() if isinstance(error, KubeError)}
        return {key: model for key, model in found.items() if not isinstance(model, KubeError)}

    async def _members(
        self, models: Mapping[ObjectKey, Model], unread: dict[ObjectKey, OperatorError]
    ) -> dict[ObjectKey, Model]:
        """Read the models that virtual ones name and that are not read yet."""
        named = {model.key: {member for _, member in named_members(model)} for model in models.values()}
        missing = frozenset[ObjectKey]().union(*named.values()) - models.keys()
        if not missing:
            return {}
        lost: dict[ObjectKey, OperatorError] = {}
        found = await self._find(missing, lost)
        for key, members in named.items():
            if cause := next((lost[member] for member in sorted(members & lost.keys())), None):
                unread[key] = cause
        return found

    async def _owned(
        self, kind: ApiResource, names: Mapping[str, set[str]], unread: dict[ObjectKey, OperatorError]
    ) -> dict[ObjectKey, tuple[Manifest, ...]]:
        """List what carries our labels and names one of the models."""
        scopes = self._scopes(names)
        pages = await asyncio.gather(
            *(
                self._kube.list(kind, namespace=scope, label_selector=_selector(names, scope))
                if scope is None
                else self._list_in(scope, kind, unread, names[scope], labels=_selector(names, scope))
                for scope in scopes
            )
        )
        return _by_model(pages)

    async def _revisions(
        self, names: Mapping[str, set[str]], unread: dict[ObjectKey, OperatorError], *, metadata_only: bool
    ) -> dict[ObjectKey, tuple[Manifest, ...]] | None:
        """List the ControllerRevisions of some models; None where that is forbidden: then no template is kept."""

        async def one(scope: str | None) -> Listing:
            labels = _selector(names, scope)
            try:
                return await self._kube.list(
                    CONTROLLER_REVISIONS, namespace=scope, label_selector=labels, metadata_only=metadata_only
                )
            except KubeError as error:
                if scope is None or isinstance(error, Forbidden):
                    raise
                unread.update({ObjectKey(scope, name): error for name in names[scope]})
                return Listing((), "")

        try:
            return _by_model(await asyncio.gather(*(one(scope) for scope in self._scopes(names))))
        except Forbidden:
            return None

    async def _list_in(
        self,
        namespace: str,
        kind: ApiResource,
        unread: dict[ObjectKey, OperatorError],
        names: Iterable[str],
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> Listing:
        """List in one namespace; an error there is noted for the models that needed it."""
        try:
            return await self._kube.list(kind, namespace=namespace, label_selector=labels, field_selector=fields)
        except KubeError as error:
            unread |= {ObjectKey(namespace, name): error for name in names}
            return Listing((), "")

    async def _claims(
        self, models: Iterable[Model], unread: dict[ObjectKey, OperatorError]
    ) -> dict[ObjectKey, Manifest]:
        wanted: defaultdict[ObjectKey, set[str]] = defaultdict(set)
        for model in models:
            for claim in named_claims(model):
                wanted[ObjectKey(model.key.namespace, claim)].add(model.key.name)
        pages = await asyncio.gather(
            *(
                self._list_in(key.namespace, CLAIMS, unread, names, fields=f"metadata.name={key.name}")
                for key, names in sorted(wanted.items())
            )
        )
        return {_key(item): item for page in pages for item in page.items}

    async def _mounted(self, pods: Mapping[ObjectKey, Iterable[Manifest]]) -> dict[ObjectKey, Manifest | None]:
        """Look for the ConfigMaps that a node may be waiting for: of pods that come up as they should, few and once."""
        wanted = {
            ObjectKey(key.namespace, one.name)
            for key, found in pods.items()
            for pod in found
            if waits_for_mounts(pod)
            for one in mounted_by(pod)
            if one.kind == CONFIG_MAPS.kind
        }

        async def look(key: ObjectKey) -> tuple[Manifest, ...] | None:
            try:
                fields = f"metadata.name={key.name}"
                return tuple((await self._kube.list(CONFIG_MAPS, namespace=key.namespace, field_selector=fields)).items)
            except KubeError:
                return None  # then nothing is known of it, which keeps nobody from anything

        looked = sorted(wanted)[:MOST_MOUNTED]
        found = await asyncio.gather(*map(look, looked))
        return {key: next(iter(items), None) for key, items in zip(looked, found, strict=True) if items is not None}

    def is_cluster_wide(self, keys: Iterable[ObjectKey]) -> bool:
        """Whether what belongs to `keys` is listed in the whole cluster at once, not in each namespace."""
        return self._scopes(_names_by_namespace(keys)) == (None,)

    def _scopes(self, names: Mapping[str, set[str]]) -> tuple[str | None, ...]:
        if len(names) > MANY_NAMESPACES and self._cluster_wide:
            return (None,)
        return tuple(sorted(names))


def _may_be_scaled(model: Model, children: Iterable[Manifest]) -> bool:
    """Whether it has, or may have had, a scaler: then its Deployment says that the number is not the LLMModel's."""
    if model.spec is not None and model.spec.scaling is not None:
        return True
    return any(is_scaled(child) for child in children if child["kind"] == DEPLOYMENTS.kind)


def _may_have_job(model: Model) -> bool:
    """Whether suites are, or were, to be run for a rollout of it."""
    return has_steps(model) or ROLLOUT in model.status


def _names_by_namespace(keys: Iterable[ObjectKey]) -> dict[str, set[str]]:
    names: defaultdict[str, set[str]] = defaultdict(set)
    for key in keys:
        names[key.namespace].add(key.name)
    return dict(names)


def _by_model(pages: Iterable[Listing]) -> dict[ObjectKey, tuple[Manifest, ...]]:
    found: defaultdict[ObjectKey, list[Manifest]] = defaultdict(list)
    for page in pages:
        for item in page.items:
            found[ObjectKey(item["metadata"]["namespace"], item["metadata"]["labels"][MODEL_LABEL])].append(item)
    return {key: tuple(items) for key, items in found.items()}


def _keys_of(names: Mapping[str, set[str]]) -> list[ObjectKey]:
    return [ObjectKey(namespace, name) for namespace, group in names.items() for name in group]


def _selector(names: Mapping[str, set[str]], scope: str | None) -> str:
    wanted = set().union(*names.values()) if scope is None else names[scope]
    return f"{MANAGED_BY_LABEL}={MANAGED_BY},{MODEL_LABEL} in ({','.join(sorted(wanted))})"


def _key(manifest: Manifest) -> ObjectKey:
    return ObjectKey(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
