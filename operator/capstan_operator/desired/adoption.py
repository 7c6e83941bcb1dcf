"""Whose turn it is to take up a pod template that a change of settings, of a profile or of shared prompts has made.

Such a change, a release with another worker image say, concerns many models of the cluster at the same moment. So few
take it up at once: the oldest first, each only when one more of its pods has room, and room that is given to one is
gone for the next. A model that is on its way keeps its place until it has arrived: a release that does not work
stops with the first few, whose old pods serve on. Only one that is stuck for what the change has not caused gives its
place up: it served nobody before either, or what it lacks is room.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec, RolloutStrategy
from capstan_operator.desired.model import live_deployment
from capstan_operator.desired.pods import condition_of, is_active, is_ready, pod_hash_of
from capstan_operator.desired.replicas import wanted_replicas
from capstan_operator.desired.rollout import BEGAN_ANNOTATION
from capstan_operator.desired.shortage import moment_of
from capstan_operator.desired.snapshot import NodeCapacity, Snapshot
from capstan_operator.desired.template_changes import is_adopted
from capstan_operator.desired.types import DesiredModel, Pending
from capstan_operator.resources.resource import Manifest, ObjectKey

ROLLED_OUT: Final = "NewReplicaSetAvailable"
"""What a Deployment says of its progress, once and for all, when a rollout has come to its end."""
PAST_DEADLINE: Final = "ProgressDeadlineExceeded"
"""What it says when a rollout has made no progress for `progressDeadlineSeconds`."""


@dataclass(frozen=True)
class RolloutState:
    """One model, as far as turns are concerned."""

    key: ObjectKey
    created: str
    waits: bool = False
    """Whether a change of settings waits for its turn."""
    rolls: bool = False
    """Whether pods of an older template are being replaced."""
    adopts: bool = False
    """Whether they are being replaced for a change of settings: it has a place."""
    serves: bool = True
    """Whether it has a ready pod."""
    gpus: int = 0
    """GPUs that one more of its pods needs, of `gpu_resource`; 0 when it needs none, or gives its own away first."""
    gpu_resource: str = ""
    unplaced: int = 0
    """GPUs that the next pod of a rollout on its way has not found yet."""
    stuck: bool = False
    """Whether its rollout is past its deadline, or needs a person."""
    excused: bool = False
    """Whether it is stuck, and not for the change of settings."""
    node_selector: tuple[tuple[str, str], ...] = ()
    """Labels that a node of its pods must have."""
    idle: bool = False
    """Whether it is to have no pod."""

    @property
    def has_place(self) -> bool:
        """Whether it is on its way for a change of settings, and says something about that change."""
        return self.rolls and self.adopts and not self.excused


def decide_turns(
    states: Iterable[RolloutState],
    *,
    nodes: Sequence[NodeCapacity] | None,
    places: int,
    granted: frozenset[ObjectKey] = frozenset(),
) -> frozenset[ObjectKey]:
    """Give the models whose turn it is. `granted` are those whose turn it was and who have not begun yet: they keep it.

    A model that has a place already may take up a still newer template in it. Those that serve nobody come last: a
    broken one could hold its place for long. `nodes` None: it is not known what is free, so there is room.
    """
    known = sorted(states, key=lambda state: (state.key not in granted, not state.serves, state.created, state.key))
    room = None if nodes is None else _Room(nodes)
    # NB: in an order that does not depend on who was granted: the same facts leave the same room.
    for state in sorted(known, key=lambda state: state.key):
        if room and state.rolls and state.unplaced:
            room.take(state, state.unplaced)
    left = places - sum(state.has_place for state in known)
    turns = set()
    for state in known:
        if not state.waits:
            continue
        if state.has_place:
            turns.add(state.key)
        elif left > 0 and (room is None or not state.gpus or room.take(state, state.gpus)):
            turns.add(state.key)
            left -= 1
    return frozenset(turns)


def rollout_state(model: Model, desired: DesiredModel, snapshot: Snapshot) -> RolloutState | None:
    """Give the state of a model with pods, from the Deployment and pods that there are; None for one without."""
    live, spec = live_deployment(model.key, snapshot), model.spec
    if live is None or spec is None or desired.pod_hash is None:
        return None
    replicas = wanted_replicas(spec, live)
    pods = [pod for pod in snapshot.pods.get(model.key, ()) if is_active(pod)]
    rolls = replicas > 0 and is_rolling(live)
    new = [pod for pod in pods if pod_hash_of(pod) == desired.pod_hash]
    placed = [pod for pod in new if (pod.get("spec") or {}).get("nodeName")]
    searches = rolls and len(placed) < replicas and all(map(is_ready, placed))
    obstacle = desired.rollout.obstacle if desired.rollout else None
    hindered = rolls and obstacle is not None and obstacle.needs_person
    stuck = hindered or (rolls and _is_past_deadline(live))
    serves = any(map(is_ready, pods)) or replicas == 0
    waits = desired.pending is Pending.ADOPTION
    selector = ((live["spec"].get("template") or {}).get("spec") or {}).get("nodeSelector") or {}
    if waits:
        # NB: a changed profile may send the pods to other nodes than those where they are.
        selector = node_selector_of(spec)
    in_place = spec.rollouts.strategy is RolloutStrategy.IN_PLACE
    return RolloutState(
        key=model.key,
        created=model.created,
        waits=waits,
        rolls=rolls,
        adopts=is_adopted(live),
        serves=serves,
        gpus=0 if in_place or replicas == 0 else spec.resources.gpus,
        gpu_resource=spec.resources.gpuResource,
        unplaced=spec.resources.gpus if searches else 0,
        stuck=stuck,
        excused=hindered or (stuck and not serves and _served_nobody_before(live)),
        node_selector=tuple(sorted(selector.items())),
        idle=replicas == 0,
    )


def node_selector_of(spec: LLMModelSpec) -> Mapping[str, str]:
    """Give the labels that a node of a spec's pods must have, by its own template as well."""
    patch = ((spec.template or {}).get("spec") or {}).get("nodeSelector") or {}
    found = {**spec.resources.nodeSelector, **patch}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def is_rolling(deployment: Manifest) -> bool:
    """Say whether the controller has still pods of an older template to replace, or has not looked yet."""
    observed = int((deployment.get("status") or {}).get("observedGeneration") or 0)
    if observed < int(deployment["metadata"].get("generation") or 0):
        return True
    return (condition_of(deployment, "Progressing") or {}).get("reason") != ROLLED_OUT


def _is_past_deadline(deployment: Manifest) -> bool:
    return (condition_of(deployment, "Progressing") or {}).get("reason") == PAST_DEADLINE


def _served_nobody_before(deployment: Manifest) -> bool:
    """Say whether too few pods were ready already when the present template was written, and ever since."""
    available = condition_of(deployment, "Available") or {}
    since = moment_of(available.get("lastTransitionTime"))
    began = moment_of((deployment["metadata"].get("annotations") or {}).get(BEGAN_ANNOTATION))
    return available.get("status") == "False" and since is not None and began is not None and since <= began


class _Room:
    """GPUs that are free, less those that are given away."""

    def __init__(self, nodes: Iterable[NodeCapacity]) -> None:
        self._nodes = [(frozenset(node.labels.items()), dict(node.free)) for node in nodes]

    def take(self, state: RolloutState, count: int) -> bool:
        """Take so many of one node where the pod may be, if one has them: of the fullest that does, so that large pods
        find room."""
        resource, wanted = state.gpu_resource, frozenset(state.node_selector)
        fitting = [free for labels, free in self._nodes if wanted <= labels and free.get(resource, 0) >= count]
        if not fitting:
            return False
        min(fitting, key=lambda free: free[resource])[resource] -= count
        return True
