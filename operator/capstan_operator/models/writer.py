"""Writing what one model owns: apply what differs, prune what is owned and not wanted. No decision is made here."""

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from capstan_contract.names import APPLIED_HASH_ANNOTATION
from capstan_operator.api.kinds import Model
from capstan_operator.desired.diff import needs_apply
from capstan_operator.desired.replicas import FROM_MODEL, REPLICAS_ANNOTATION
from capstan_operator.desired.types import Action, DesiredModel, Wanted
from capstan_operator.failures import sort_failure
from capstan_operator.kube.errors import Conflict, Forbidden, Invalid
from capstan_operator.kube.port import KubePort
from capstan_operator.models.namesakes import is_another_models
from capstan_operator.names import FIELD_MANAGER, SCALE_MANAGER
from capstan_operator.resources.api_resource import AUTOSCALERS, DEPLOYMENTS, SCALED_OBJECTS, resource_of
from capstan_operator.resources.resource import Manifest, identity_of, is_owned
from capstan_operator.status.types import Problem

log = logging.getLogger(__name__)

MOST_MESSAGE: Final = 1000
MOST_UNKEPT: Final = 4096
RETRY_REFUSED: Final = 60.0
"""Seconds until an object that was refused is tried again: a quota may have grown, a name become free."""

_SCALING: Final = (AUTOSCALERS.kind, SCALED_OBJECTS.kind)

Identity = tuple[str, str]
"""(kind, name)."""


@dataclass
class Written:
    """What is there after the writes, and what was refused."""

    live: dict[Identity, Manifest]
    problems: list[Problem] = field(default_factory=list)
    refused: dict[Identity, Problem] = field(default_factory=dict)
    """Those of `problems` that are refusals by the API server."""
    notices: list[str] = field(default_factory=list)
    """What a person should know of these writes, for Events."""


class ChildWriter:
    """Brings the children of one model to what is desired."""

    def __init__(self, kube: KubePort) -> None:
        self._kube = kube
        self._unkept: OrderedDict[str, tuple[str, str]] = OrderedDict()

    async def write(
        self,
        model: Model,
        desired: DesiredModel,
        present: Iterable[Manifest],
        *,
        taken: Mapping[Identity, Manifest] = MappingProxyType({}),
    ) -> Written:
        """Apply and prune. An object that is refused becomes a Problem and does not stop the others.

        What is `taken` is there already and somebody else's: it is not written to.
        """
        written = Written({identity_of(child): child for child in present})
        pruned = [wanted.manifest for wanted in desired.wanted if wanted.action is Action.PRUNE]
        # NB: an HPA writes to the Deployment, and by what that says it is known that there may be one: it goes first.
        # So does a ScaledObject; and what it needs to ask the operator goes last, since KEDA ends in its own time.
        await self._prune(model, [child for child in pruned if child["kind"] in _SCALING], written)
        for manifest in desired.objects:
            if holder := taken.get(identity_of(manifest)):
                written.problems.append(_taken(manifest, is_another_models(holder, model.uid)))
                continue
            try:
                await self._apply(model, desired, manifest, written)
            except Conflict:
                if identity_of(manifest) in written.live:
                    raise  # somebody wrote it at the same moment: look again
                written.problems.append(_taken(manifest))
            except (Invalid, Forbidden) as error:
                written.refused[identity_of(manifest)] = problem = _refused(error)
                written.problems.append(problem)
                log.warning("object was refused", extra={"model": str(model.key), "error": str(error)[:MOST_MESSAGE]})
        await self._prune(model, [child for child in pruned if child["kind"] not in _SCALING], written)
        if desired.faults and desired.replicas is not None:
            await self._scale_held(model, desired.wanted, desired.replicas, written)
        return written

    async def _scale_held(self, model: Model, held: Iterable[Wanted], replicas: int, written: Written) -> None:
        """Set the number of a Deployment of which nothing else is written, because the spec cannot be used."""
        for manifest in [one.manifest for one in held if one.manifest["kind"] == DEPLOYMENTS.kind]:
            if not is_owned(manifest, model.uid):
                continue
            try:
                await self._scale(manifest, replicas, written)
            except (Invalid, Forbidden) as error:
                written.problems.append(_refused(error))

    async def _apply(self, model: Model, desired: DesiredModel, manifest: Manifest, written: Written) -> None:
        identity = identity_of(manifest)
        live = written.live.get(identity)
        scaled = _is_scaled(model, desired, manifest)
        if not needs_apply(manifest, live) or self._is_unkept(manifest, live):
            if scaled:
                await self._scale(manifest, desired.replicas or 0, written)
            return
        if live is None and scaled:
            # NB: without a number the API server would start one replica before the second write says how many.
            await self._create(_with_replicas(manifest, desired.replicas or 0))
        elif live is None:
            written.live[identity] = await self._create(manifest)
        if scaled:
            await self._scale(manifest, desired.replicas or 0, written)
        if live is not None or scaled:
            written.live[identity] = await self._kube.apply(manifest)
        self._notice_unkept(manifest, written)
        log.info("applied object", extra={"model": str(model.key), "kind": identity[0], "object": identity[1]})

    async def _create(self, manifest: Manifest) -> Manifest:
        """Make an object. Raises Conflict when somebody else made one of this name at the same moment."""
        made = await self._kube.apply(manifest, force=False)
        managers = {entry.get("manager") for entry in made["metadata"].get("managedFields") or ()}
        if managers <= {FIELD_MANAGER}:
            return made
        # NB: it was there, no field was in conflict, and so the apply was merged into it. Applying nothing takes that
        # back: server-side apply removes what we alone have set, the ownerReference that would delete it included.
        metadata = {key: made["metadata"][key] for key in ("name", "namespace", "uid")}
        await self._kube.apply({"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": metadata})
        raise Conflict(f"the {manifest['kind']} '{metadata['name']}' was made by somebody else")

    def _notice_unkept(self, manifest: Manifest, written: Written) -> None:
        """Remember an object that is not as applied even right after the apply.

        The API server drops fields that its version or its feature gates do not know, and admission webhooks change
        what they please. Applying again and again would not help, and would never come to rest.
        """
        live = written.live[identity_of(manifest)]
        if needs_apply(manifest, live):
            kind, name = identity_of(manifest)
            self._unkept[live["metadata"]["uid"]] = (_applied_hash(manifest), _revision(live))
            written.notices.append(f"the API server did not keep every field of the {kind} '{name}'")
            while len(self._unkept) > MOST_UNKEPT:
                self._unkept.popitem(last=False)

    def _is_unkept(self, manifest: Manifest, live: Manifest | None) -> bool:
        """Whether this was applied already, was not kept, and nobody has touched the object since."""
        known = self._unkept.get(live["metadata"]["uid"]) if live is not None else None
        return known is not None and live is not None and known == (_applied_hash(manifest), _revision(live))

    async def _scale(self, manifest: Manifest, replicas: int, written: Written) -> None:
        """Set the replicas under a manager of their own, which an autoscaler then takes them over from."""
        metadata = {key: manifest["metadata"][key] for key in ("name", "namespace")}
        patch = {"apiVersion": DEPLOYMENTS.api_version, "kind": DEPLOYMENTS.kind, "metadata": metadata}
        applied = await self._kube.apply({**patch, "spec": {"replicas": replicas}}, manager=SCALE_MANAGER)
        written.live[identity_of(manifest)] = applied

    async def _prune(self, model: Model, children: Iterable[Manifest], written: Written) -> None:
        for child in children:
            identity = identity_of(child)
            # NB: whatever carries our labels is among the children; only the owner's uid says whose it is.
            if not is_owned(child, model.uid) or "deletionTimestamp" in child["metadata"]:
                continue
            metadata = child["metadata"]
            try:
                await self._kube.delete(
                    resource_of(child), metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"]
                )
            except Conflict:
                continue  # another object has the name by now: not the one that was to go
            written.live.pop(identity, None)
            log.info("pruned object", extra={"model": str(model.key), "kind": identity[0], "object": identity[1]})


def _applied_hash(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(APPLIED_HASH_ANNOTATION, ""))


def _revision(live: Manifest) -> str:
    """What changes when somebody changes what is wanted of the object, and not when its status does."""
    metadata = live["metadata"]
    return f"g{metadata['generation']}" if "generation" in metadata else f"r{metadata.get('resourceVersion')}"


def _is_scaled(model: Model, desired: DesiredModel, manifest: Manifest) -> bool:
    """Whether this is the Deployment of a model whose replicas have to be set under the manager of their own."""
    scaling = model.spec is not None and model.spec.scaling is not None
    return scaling and desired.replicas is not None and manifest["kind"] == DEPLOYMENTS.kind


def _with_replicas(manifest: Manifest, replicas: int) -> Manifest:
    # NB: says whose the number is, so that the next pass hands it over if this one ends before it could.
    metadata = manifest["metadata"]
    annotations = {**(metadata.get("annotations") or {}), REPLICAS_ANNOTATION: FROM_MODEL}
    return {
        **manifest,
        "metadata": {**metadata, "annotations": annotations},
        "spec": {**manifest["spec"], "replicas": replicas},
    }


def _refused(error: Invalid | Forbidden) -> Problem:
    failure = sort_failure(error)
    return Problem(failure.reason, failure.message)


def _taken(manifest: Manifest, by_model: bool = False) -> Problem:
    kind, name = identity_of(manifest)
    if by_model:
        return Problem("NameTaken", f"the {kind} '{name}' still belongs to an LLMModel that was deleted")
    return Problem("NameTaken", f"the {kind} '{name}' exists already and was not made by Capstan")
