"""Everything that one LLMModel should own."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from capstan_contract.names import API_VERSION, POD_HASH_LABEL, STABLE, TRACK_LABEL
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.api.scaling import ScalingStrategy
from capstan_operator.desired.autoscaler import NOTHING_SAID, ScalerSays, Use, build_autoscaler
from capstan_operator.desired.diff import with_applied_hash
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.inference_pool import build_inference_pool
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
from capstan_operator.desired.pods import find_child, is_active, template_hash
from capstan_operator.desired.replicas import (
    Replicas,
    decide_replicas,
    is_scaled,
    scaling_in_force,
    wanted_replicas,
)
from capstan_operator.desired.revisions import plan_revisions
from capstan_operator.desired.rollout import Policy, decide_rollout, rollout_annotations
from capstan_operator.desired.scaled_object import build_scaled_object, is_of_keda
from capstan_operator.desired.snapshot import PodHash, Snapshot
from capstan_operator.desired.template_changes import InForce, choose_template
from capstan_operator.desired.types import Action, DesiredModel, Rollout, Wanted
from capstan_operator.desired.volumes import exclusive_claim
from capstan_operator.resources.api_resource import AUTOSCALERS, CLAIMS, CONTROLLER_REVISIONS
from capstan_operator.resources.resource import Manifest, ObjectKey, identity_of
from capstan_operator.settings import GRADUALLY, BuildSettings

_TRACKED: Final = frozenset(
    {"Deployment", "Service", "PodDisruptionBudget", "ControllerRevision", "HorizontalPodAutoscaler", "ScaledObject"}
)
"""Kinds of which every track has its own."""


TemplateBuilder = Callable[[Model, LLMModelSpec, BuildSettings], tuple[Manifest, PodHash]]
"""`build_template`, or something that remembers what it built."""


def build_model(
    model: Model,
    snapshot: Snapshot,
    settings: BuildSettings,
    *,
    adopt: bool = False,
    scaler: ScalerSays = NOTHING_SAID,
    template: TemplateBuilder = build_template,
    beside: Iterable[Wanted] = (),
) -> DesiredModel:
    """Give everything that a model should own. Never raises for what a user wrote: faults are in `faults`.

    A faulty model keeps what it has; external and virtual ones and one that is being deleted own nothing (of the
    latter the garbage collector takes care). `adopt` says that it is this model's turn to take up a pod template that
    no change of its spec has caused. `scaler` is what ours says of the number of replicas. `beside` is what is wanted
    of objects that are not of the stable pods.
    """
    faults = find_faults(model)
    spec = model.spec
    if faults or spec is None or model.deleting:
        held = _of_present(model, snapshot, Action.HOLD)
        return DesiredModel(key=model.key, wanted=held, faults=faults, replicas=_held_number(model, snapshot, scaler))
    if not spec.has_engine:
        return DesiredModel(key=model.key, wanted=_of_present(model, snapshot, Action.PRUNE))
    live = live_deployment(model.key, snapshot)
    in_force = choose_template(
        model,
        spec,
        settings,
        template(model, spec, settings),
        live=live,
        revisions=_revisions(model, snapshot),
        adopt=adopt,
        gradually=settings.adopt_template_changes == GRADUALLY,
    )
    work = _Workload(model, spec, in_force, live)
    scaler = _with_placed(scaler, live, snapshot.pods.get(model.key, ()))
    replicas = decide_replicas(spec, live, scaler.replicas)
    rollout = _decide_rollout(work, snapshot, settings, scaler.replicas)
    selector = _serving_selector(work, snapshot)
    revision, others = _plan_revisions(work, snapshot)
    objects = _build_objects(work, snapshot, settings, replicas, rollout, selector)
    scaling = scaling_in_force(spec, live)
    # NB: what the scaler says may be of a moment before `strategy` was changed.
    if scaling and scaling.follows is ScalingStrategy.HPA and snapshot.autoscalers and scaler.hpa is Use.APPLY:
        objects.append(build_autoscaler(model.key.name, scaling, scaler.least, scaler.most))
    by_keda = scaling and scaling.follows is ScalingStrategy.KEDA and scaler.keda is Use.APPLY
    if scaling and by_keda and snapshot.scaled_objects and scaler.endpoint:
        objects += build_scaled_object(model.key.name, scaling, scaler.least, scaler.endpoint)
    applied = [with_applied_hash(_owned(manifest, model)) for manifest in (*([revision] if revision else []), *objects)]
    more = [_owned_too(one, model) for one in beside if identity_of(one.manifest) not in set(map(identity_of, applied))]
    named = [*applied, *(one.manifest for one in more)]
    return DesiredModel(
        key=model.key,
        wanted=(*map(Wanted, applied), *more, *others, *_surplus(work, snapshot, named, scaler)),
        pod_hash=in_force.pod_hash,
        rollout=rollout,
        pending=in_force.pending,
        replicas=replicas.to_hand_over,
        selector=",".join(f"{key}={value}" for key, value in sorted(selector.items())),
    )


def is_template_changing(
    model: Model, snapshot: Snapshot, settings: BuildSettings, *, template: TemplateBuilder = build_template
) -> bool:
    """Say whether the template that would be built is not the live one: then the kept ones are looked at."""
    live, spec = live_deployment(model.key, snapshot), model.spec
    if live is None or spec is None or not spec.has_engine or model.deleting or find_faults(model):
        return False
    return template_hash(live) != template(model, spec, settings)[1]


def live_deployment(key: ObjectKey, snapshot: Snapshot) -> Manifest | None:
    """Give the Deployment that a model has now."""
    return find_child(snapshot.children.get(key, ()), "Deployment", workload_name(key.name))


def _held_number(model: Model, snapshot: Snapshot, scaler: ScalerSays) -> int | None:
    """Give the number of a model whose spec cannot be used: what serves is scaled as before, so that an edit that was
    refused neither keeps it at zero nor keeps it from going there."""
    live = live_deployment(model.key, snapshot)
    if live is None or model.deleting or not is_scaled(live):
        return None
    decided = _with_placed(scaler, live, snapshot.pods.get(model.key, ())).replicas
    return decided if decided != int(live["spec"].get("replicas", 1)) else None


def _with_placed(scaler: ScalerSays, live: Manifest | None, pods: Iterable[Manifest]) -> ScalerSays:
    """Give what the scaler says by what is so now: it may have been said before a node took one more replica, and what
    a node has taken may serve."""
    if not scaler.keeps_placed or live is None:
        return scaler
    placed = sum(bool((pod.get("spec") or {}).get("nodeName")) for pod in pods if is_active(pod))
    least = min(placed, int(live["spec"].get("replicas", 1)))
    return replace(
        scaler,
        replicas=None if scaler.replicas is None else max(scaler.replicas, least),
        most=None if scaler.most is None else max(scaler.most, least),
    )


@dataclass(frozen=True)
class _Workload:
    """A model and the pods that it should have."""

    model: Model
    spec: LLMModelSpec
    in_force: InForce
    live: Manifest | None


def _build_objects(
    work: _Workload,
    snapshot: Snapshot,
    settings: BuildSettings,
    replicas: Replicas,
    rollout: Rollout,
    selector: Mapping[str, str],
) -> list[Manifest]:
    """Give the objects in the order to apply them: what a pod needs comes before the pods."""
    name, spec = work.model.key.name, work.spec
    objects = []
    if spec.prefixes:
        objects.append(build_prefixes(name, spec))
    if spec.cache and spec.cache.size and not spec.cache.claimName:
        objects.append(build_claim(name, spec.cache, snapshot.children.get(work.model.key, ())))
    objects.append(build_service(name, selector))
    if settings.network_policies:
        objects.append(build_network_policy(name, settings))
    began = rollout_annotations(work.live, work.in_force.pod_hash, snapshot.now)
    objects.append(
        build_deployment(
            name,
            work.in_force.template,
            selector=_pod_selector(work),
            replicas=replicas.in_manifest,
            mode=rollout.mode,
            deadline=spec.rollouts.progressDeadlineSeconds,
            annotations={**replicas.annotations, **began, **work.in_force.annotations},
        )
    )
    if has_disruption_budget(spec):
        objects.append(build_disruption_budget(name, selector))
    if settings.inference_pools and snapshot.inference_pools:
        objects.append(build_inference_pool(name, selector, settings))
    return objects


def _pod_selector(work: _Workload) -> dict[str, str]:
    """Give the Deployment's selector, which cannot change: one of a release without tracks keeps its own."""
    live = ((work.live or {}).get("spec", {}).get("selector") or {}).get("matchLabels")
    return dict(live) if live else selector_labels(work.model.key.name, STABLE)


def _serving_selector(work: _Workload, snapshot: Snapshot) -> dict[str, str]:
    """Give what selects the pods that serve: by track as soon as none of them, and none to come, is without it.

    NB: selecting by track any earlier would take pods of a release without tracks out of the Service.
    """
    pods = [pod for pod in snapshot.pods.get(work.model.key, ()) if is_active(pod)]
    labelled = [work.in_force.template, *pods]
    tracked = all(TRACK_LABEL in (item["metadata"].get("labels") or {}) for item in labelled)
    return selector_labels(work.model.key.name, STABLE if tracked else None)


def _plan_revisions(work: _Workload, snapshot: Snapshot) -> tuple[Manifest | None, tuple[Wanted, ...]]:
    if snapshot.revisions is None:
        return None, ()
    return plan_revisions(
        work.model.key.name,
        work.in_force.template,
        work.in_force.pod_hash,
        present=_revisions(work.model, snapshot),
        uid=work.model.uid,
        generation=work.model.generation,
    )


def _revisions(model: Model, snapshot: Snapshot) -> tuple[Manifest, ...]:
    """Give those that keep a pod template."""
    found = (snapshot.revisions or {}).get(model.key, ())
    return tuple(item for item in found if POD_HASH_LABEL in (item["metadata"].get("labels") or {}))


def _of_present(model: Model, snapshot: Snapshot, action: Action) -> tuple[Wanted, ...]:
    """Want the same of everything that is there."""
    present = (*snapshot.children.get(model.key, ()), *(snapshot.revisions or {}).get(model.key, ()))
    return tuple(Wanted(item, action) for item in present)


def _surplus(
    work: _Workload, snapshot: Snapshot, applied: Iterable[Manifest], scaler: ScalerSays
) -> tuple[Wanted, ...]:
    """Give what is there and no longer asked for: it goes, but for what cannot be made again."""
    wanted = {identity_of(manifest) for manifest in applied}
    present = snapshot.children.get(work.model.key, ())
    children = [item for item in present if item["kind"] != CONTROLLER_REVISIONS.kind]
    left = [item for item in children if identity_of(item) not in wanted]
    return tuple(
        Wanted(item, Action.HOLD if _holds_weights(item, work) or _may_scale(item, work, scaler) else Action.PRUNE)
        for item in left
    )


def _may_scale(child: Manifest, work: _Workload, scaler: ScalerSays) -> bool:
    """Say whether it scales a model, or is needed for that, of which it is not known yet whether it has one."""
    scaling = scaling_in_force(work.spec, work.live)
    follows = scaling.follows if scaling else None
    if child["kind"] == AUTOSCALERS.kind:
        return follows is ScalingStrategy.HPA and scaler.hpa is Use.HOLD
    return is_of_keda(child, work.model.key.name) and follows is ScalingStrategy.KEDA and scaler.keda is Use.HOLD


def _holds_weights(child: Manifest, work: _Workload) -> bool:
    """Say whether it is the claim of a `cache` that the spec has no longer: an edit throws no downloads away."""
    own = identity_of(child) == (CLAIMS.kind, weights_name(work.model.key.name))
    return own and not is_thrown_away(child)


def _decide_rollout(work: _Workload, snapshot: Snapshot, settings: BuildSettings, decided: int | None) -> Rollout:
    said = work.spec.rollouts
    patience = settings.rollout_patience_seconds if said.patienceSeconds is None else said.patienceSeconds
    policy = Policy(
        strategy=said.strategy,
        patience=patience,
        replicas=wanted_replicas(work.spec, work.live, decided),
        gpu_resource=work.spec.resources.gpuResource,
        exclusive_claim=exclusive_claim(work.model, snapshot.claims),
    )
    pods = snapshot.pods.get(work.model.key, ())
    return decide_rollout(
        work.live, work.in_force.pod_hash, pods=pods, policy=policy, now=snapshot.now, nodes=snapshot.places
    )


def _is_retained(manifest: Manifest) -> bool:
    """Whether an object is to outlive the model, and so has no owner with which it would be collected."""
    return (manifest["metadata"].get("annotations") or {}).get(RETAIN_ANNOTATION) == "true"


def _owned_too(wanted: Wanted, model: Model) -> Wanted:
    if wanted.action is not Action.APPLY:
        return wanted
    return Wanted(with_applied_hash(_owned(wanted.manifest, model)))


def _owned(manifest: Manifest, model: Model) -> Manifest:
    """Add namespace, labels and the owner. A manifest without a uid (no API server has seen it) owns nothing."""
    metadata = {
        **manifest["metadata"],
        "namespace": model.key.namespace,
        "labels": {
            **child_labels(model.key.name, STABLE if manifest["kind"] in _TRACKED else None),
            **manifest["metadata"].get("labels", {}),
        },
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
