"""Everything that the checks look at, gathered first, so that a check is one question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.api.rollout import RolloutStatus
from capstan_operator.desired.model import live_deployment
from capstan_operator.desired.naming import weights_name
from capstan_operator.desired.pods import find_child, is_active, is_ready, pod_hash_of
from capstan_operator.desired.replicas import wanted_replicas
from capstan_operator.desired.rollout import waits_for_claim
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.types import DesiredModel, RolloutMode, Verdict
from capstan_operator.desired.volumes import exclusive_claim, named_claims
from capstan_operator.resources.api_resource import CLAIMS
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.status.pod_problems import find_pod_problem, find_refusal, seconds_to_judge
from capstan_operator.status.standings import Members, gather_members
from capstan_operator.status.types import Acknowledgement, Problem

_MENDED_IN_PLACE: Final = frozenset({"InsufficientGPU", "PodsRefused"})
"""What an old pod that gives way may mend."""


@dataclass(frozen=True)
class Facts:
    """One model as it is wanted and as it is."""

    model: Model
    spec: LLMModelSpec | None
    """None when it cannot be used: then `desired.faults` says why."""
    desired: DesiredModel
    verdict: Verdict
    ack: Acknowledgement
    problems: tuple[Problem, ...]
    deployment: Manifest | None
    wanted: int
    """Replicas that there should be now."""
    new: tuple[Manifest, ...]
    """Active pods of the wanted template."""
    old: tuple[Manifest, ...]
    """Active pods of other templates."""
    claims: tuple[tuple[str, Manifest | None], ...]
    """Claims that must exist, by name."""
    own_claim: tuple[str, Manifest | None] | None
    """The claim that the operator makes."""
    left_claim: str | None
    """A claim of a `cache` that the spec no longer has."""
    pod_problem: Problem | None
    """What keeps pods of the wanted template from becoming ready."""
    mounted: Mapping[ObjectKey, Manifest | None]
    """ConfigMaps that pods wait for, as far as they were looked for."""
    members: Members
    """Those of a virtual model."""

    recheck_after: float | None
    """Seconds until the same pods would be judged otherwise."""
    steps: RolloutStatus | None = None
    """Where a rollout in steps is."""

    @property
    def ready_new(self) -> int:
        """Ready pods of the wanted template."""
        return sum(map(is_ready, self.new))

    @property
    def ready(self) -> int:
        """Ready pods of any template."""
        return self.ready_new + sum(map(is_ready, self.old))

    @property
    def idle(self) -> bool:
        """Whether no replica is wanted."""
        return self.wanted == 0

    @property
    def external(self) -> bool:
        """Whether a hosted API answers."""
        return self.spec is not None and self.spec.external is not None

    @property
    def virtual(self) -> bool:
        """Whether other models answer."""
        return self.spec is not None and self.spec.is_virtual

    @property
    def podless(self) -> bool:
        """Whether there are no pods to speak of."""
        return self.external or self.virtual


def gather_facts(
    model: Model,
    desired: DesiredModel,
    snapshot: Snapshot,
    verdict: Verdict,
    ack: Acknowledgement,
    now: datetime,
    problems: Sequence[Problem],
    steps: RolloutStatus | None = None,
) -> Facts:
    """Gather what the checks look at."""
    spec = None if desired.faults else model.spec
    deployment = live_deployment(model.key, snapshot)
    pods = snapshot.pods.get(model.key, ())
    active = [pod for pod in pods if is_active(pod)]
    new = tuple(pod for pod in active if pod_hash_of(pod) == desired.pod_hash)
    wanted = wanted_replicas(spec, deployment) if spec and spec.has_engine else 0
    problem = _claim_problem(model, active, wanted, snapshot) or _pod_problem(
        spec, deployment, desired, pods, now, snapshot.mounted
    )
    times = (problem.recheck_after if problem else None, seconds_to_judge(new, now))
    return Facts(
        model=model,
        spec=spec,
        desired=desired,
        verdict=verdict,
        ack=ack,
        problems=tuple(problems),
        deployment=deployment,
        wanted=wanted,
        new=new,
        old=tuple(pod for pod in active if pod_hash_of(pod) != desired.pod_hash),
        claims=_claims(model, spec, snapshot),
        own_claim=_own_claim(model, spec, snapshot),
        left_claim=_left_claim(desired),
        pod_problem=problem,
        mounted=snapshot.mounted,
        members=gather_members(model, verdict, snapshot),
        recheck_after=min((seconds for seconds in times if seconds is not None), default=None),
        steps=steps,
    )


def _claim_problem(model: Model, active: Sequence[Manifest], wanted: int, snapshot: Snapshot) -> Problem | None:
    """Say that replicas wait for a claim that another node has, which no waiting ends: they are too many for it."""
    claim = exclusive_claim(model, snapshot.claims) if wanted > 1 else None
    if claim is None or len({pod_hash_of(pod) for pod in active}) > 1:
        return None  # a rollout has its own words
    there = {str((pod.get("spec") or {}).get("nodeName") or "") for pod in active if is_ready(pod)}
    if not there or not any(waits_for_claim(pod, there) for pod in active if not is_ready(pod)):
        return None
    return Problem(
        "ReadWriteOnceClaim",
        f"replicas wait for the PersistentVolumeClaim '{claim}', which one node at a time can attach: more than one"
        " replica needs one with accessMode ReadWriteMany",
    )


def _pod_problem(
    spec: LLMModelSpec | None,
    deployment: Manifest | None,
    desired: DesiredModel,
    pods: Sequence[Manifest],
    now: datetime,
    mounted: Mapping[ObjectKey, Manifest | None],
) -> Problem | None:
    if spec is None:
        return None
    rollout = desired.rollout
    if rollout and rollout.obstacle:
        it = rollout.obstacle
        return Problem(it.reason, it.message, needs_person=it.needs_person, recheck_after=it.recheck_after)
    active = [pod for pod in pods if is_active(pod)]
    leaving = [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]
    found = find_pod_problem(
        [pod for pod in active if pod_hash_of(pod) == desired.pod_hash and not is_ready(pod)],
        gpus=spec.resources.gpus,
        gpu_resource=spec.resources.gpuResource,
        now=now,
        leaving=leaving,
        mounted=mounted,
    ) or find_refusal(deployment, leaving=leaving, now=now)
    giving_way = rollout is not None and rollout.mode is RolloutMode.IN_PLACE and _has_old(active, desired)
    if found and giving_way and found.reason in _MENDED_IN_PLACE:
        return replace(found, needs_person=False, recheck_after=None)
    return found


def _has_old(active: Sequence[Manifest], desired: DesiredModel) -> bool:
    """Say whether a pod of an older template is left that may give way."""
    return any(pod_hash_of(pod) != desired.pod_hash for pod in active)


def _left_claim(desired: DesiredModel) -> str | None:
    """Give the claim that stays although the spec no longer asks for it."""
    left = () if desired.faults else sorted(desired.left)
    return next((name for kind, name in left if kind == CLAIMS.kind), None)


def _claims(model: Model, spec: LLMModelSpec | None, snapshot: Snapshot) -> tuple[tuple[str, Manifest | None], ...]:
    if spec is None:
        return ()
    names = named_claims(model)
    return tuple((name, snapshot.claims.get(ObjectKey(model.key.namespace, name))) for name in names)


def _own_claim(model: Model, spec: LLMModelSpec | None, snapshot: Snapshot) -> tuple[str, Manifest | None] | None:
    if spec is None or not spec.has_engine or spec.cache is None or spec.cache.claimName or not spec.cache.size:
        return None
    name = weights_name(model.key.name)
    return name, find_child(snapshot.children.get(model.key, ()), "PersistentVolumeClaim", name)
