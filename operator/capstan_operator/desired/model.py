"""Everything that one LLMModel should own."""

from dataclasses import dataclass

from capstan_contract.names import API_VERSION
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.diff import with_applied_hash
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.naming import child_labels, selector_labels, weights_name, workload_name
from capstan_operator.desired.objects import (
    RETAIN_ANNOTATION,
    build_claim,
    build_deployment,
    build_disruption_budget,
    build_network_policy,
    build_prefixes,
    build_service,
    has_disruption_budget,
    is_thrown_away,
)
from capstan_operator.desired.pod import build_template
from capstan_operator.desired.pods import find_child
from capstan_operator.desired.replicas import Replicas, decide_replicas, wanted_replicas
from capstan_operator.desired.rollout import Policy, decide_rollout, rollout_annotations
from capstan_operator.desired.snapshot import PodHash, Snapshot
from capstan_operator.desired.types import DesiredModel, Rollout
from capstan_operator.desired.volumes import exclusive_claim
from capstan_operator.resources.api_resource import CLAIMS
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.settings import BuildSettings


def build_model(model: Model, snapshot: Snapshot, settings: BuildSettings) -> DesiredModel:
    """Give everything that a model should own. Never raises for what a user wrote: faults are in `errors`.

    A faulty model keeps what it has; external and virtual ones and one that is being deleted own nothing (of the
    latter the garbage collector takes care).
    """
    faults = find_faults(model)
    spec = model.spec
    if faults or spec is None or model.deleting:
        return DesiredModel(key=model.key, objects=(), keep=True, faults=faults)
    if not spec.has_engine:
        return DesiredModel(key=model.key, objects=())
    template, pod_hash = build_template(model, spec, settings)
    work = _Workload(model, spec, template, pod_hash, live_deployment(model.key, snapshot))
    replicas = decide_replicas(spec, work.live)
    rollout = _decide_rollout(work, snapshot, settings)
    objects = _build_objects(work, snapshot, settings, replicas, rollout)
    return DesiredModel(
        key=model.key,
        objects=tuple(with_applied_hash(_owned(manifest, model)) for manifest in objects),
        held=_held(work, snapshot),
        pod_hash=pod_hash,
        rollout=rollout,
        replicas=replicas.to_hand_over,
        selector=",".join(f"{key}={value}" for key, value in sorted(selector_labels(model.key.name).items())),
    )


def live_deployment(key: ObjectKey, snapshot: Snapshot) -> Manifest | None:
    """Give the Deployment that a model has now."""
    return find_child(snapshot.children.get(key, ()), "Deployment", workload_name(key.name))


@dataclass(frozen=True)
class _Workload:
    """A model and the pods that it should have."""

    model: Model
    spec: LLMModelSpec
    template: Manifest
    pod_hash: PodHash
    live: Manifest | None


def _build_objects(
    work: _Workload, snapshot: Snapshot, settings: BuildSettings, replicas: Replicas, rollout: Rollout
) -> list[Manifest]:
    """Give the objects in the order to apply them: what a pod needs comes before the pods."""
    name, spec = work.model.key.name, work.spec
    objects = []
    if spec.prefixes:
        objects.append(build_prefixes(name, spec))
    if spec.cache and spec.cache.size and not spec.cache.claimName:
        objects.append(build_claim(name, spec.cache, snapshot.children.get(work.model.key, ())))
    objects.append(build_service(name))
    if settings.network_policies:
        objects.append(build_network_policy(name, settings))
    annotations = {**replicas.annotations, **rollout_annotations(work.live, work.pod_hash, snapshot.now)}
    objects.append(
        build_deployment(
            name,
            work.template,
            replicas=replicas.in_manifest,
            mode=rollout.mode,
            deadline=spec.rollouts.progressDeadlineSeconds,
            annotations=annotations,
        )
    )
    if has_disruption_budget(spec):
        objects.append(build_disruption_budget(name))
    return objects


def _decide_rollout(work: _Workload, snapshot: Snapshot, settings: BuildSettings) -> Rollout:
    said = work.spec.rollouts
    patience = settings.rollout_patience_seconds if said.patienceSeconds is None else said.patienceSeconds
    policy = Policy(
        strategy=said.strategy,
        patience=patience,
        replicas=wanted_replicas(work.spec, work.live),
        gpu_resource=work.spec.resources.gpuResource,
        exclusive_claim=exclusive_claim(work.model, snapshot.claims),
    )
    pods = snapshot.pods.get(work.model.key, ())
    return decide_rollout(work.live, work.pod_hash, pods=pods, policy=policy, now=snapshot.now)


def _held(work: _Workload, snapshot: Snapshot) -> frozenset[tuple[str, str]]:
    """Give the claim of a `cache` that the spec no longer has: downloads of hours are not thrown away by an edit."""
    cache, name = work.spec.cache, weights_name(work.model.key.name)
    if cache and cache.size and not cache.claimName:
        return frozenset()
    live = find_child(snapshot.children.get(work.model.key, ()), CLAIMS.kind, name)
    return frozenset({(CLAIMS.kind, name)}) if live and not is_thrown_away(live) else frozenset()


def _is_retained(manifest: Manifest) -> bool:
    """Whether an object is to outlive the model, and so has no owner with which it would be collected."""
    return (manifest["metadata"].get("annotations") or {}).get(RETAIN_ANNOTATION) == "true"


def _owned(manifest: Manifest, model: Model) -> Manifest:
    """Add namespace, labels and the owner. A manifest without a uid (no API server has seen it) owns nothing."""
    metadata = {
        **manifest["metadata"],
        "namespace": model.key.namespace,
        "labels": child_labels(model.key.name),
    }
    if model.uid and not _is_retained(manifest):
        metadata["ownerReferences"] = [
            {
                "apiVersion": API_VERSION,
                "kind": "LLMModel",
                "name": model.key.name,
                "uid": model.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return {**manifest, "metadata": metadata}
