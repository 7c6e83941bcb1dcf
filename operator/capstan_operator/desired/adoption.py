"""Whose turn it is to take up a pod template that a change of the install's settings has made.

Such a change, a release with another worker image say, concerns every model of the cluster at the same moment. So few
take it up at once: the oldest first, each only when one more of its pods has room, and room that is given to one is
gone for the next. A model that is on its way keeps its place until it has arrived: a release that does not work
stops with the first few, whose old pods serve on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import RolloutStrategy
from capstan_operator.desired.model import live_deployment
from capstan_operator.desired.pods import condition_of, is_active, is_ready, pod_hash_of
from capstan_operator.desired.replicas import wanted_replicas
from capstan_operator.desired.snapshot import NodeCapacity, Snapshot
from capstan_operator.desired.template_changes import is_adopted
from capstan_operator.desired.types import DesiredModel, Pending
from capstan_operator.resources.resource import Manifest, ObjectKey

ROLLED_OUT: Final = "NewReplicaSetAvailable"
"""What a Deployment says of its progress, once and for all, when a rollout has come to its end."""


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

    @property
    def has_place(self) -> bool:
        """Whether it is on its way for a change of settings."""
        return self.rolls and self.adopts


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
            room.take(state.gpu_resource, state.unplaced)
    left = places - sum(state.has_place for state in known)
    turns = set()
    for state in known:
        if not state.waits:
            continue
        if state.has_place:
            turns.add(state.key)
        elif left > 0 and (room is None or not state.gpus or room.take(state.gpu_resource, state.gpus)):
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
    in_place = spec.rollouts.strategy is RolloutStrategy.IN_PLACE
    return RolloutState(
        key=model.key,
        created=model.created,
        waits=desired.pending is Pending.ADOPTION,
        rolls=rolls,
        adopts=is_adopted(live),
        serves=any(map(is_ready, pods)) or replicas == 0,
        gpus=0 if in_place or replicas == 0 else spec.resources.gpus,
        gpu_resource=spec.resources.gpuResource,
        unplaced=spec.resources.gpus if searches else 0,
    )


def is_rolling(deployment: Manifest) -> bool:
    """Say whether the controller has still pods of an older template to replace, or has not looked yet."""
    observed = int((deployment.get("status") or {}).get("observedGeneration") or 0)
    if observed < int(deployment["metadata"].get("generation") or 0):
        return True
    return (condition_of(deployment, "Progressing") or {}).get("reason") != ROLLED_OUT


class _Room:
    """GPUs that are free, less those that are given away."""

    def __init__(self, nodes: Iterable[NodeCapacity]) -> None:
        self._free = [dict(node.free) for node in nodes]

    def take(self, resource: str, count: int) -> bool:
        """Take so many of one node, if one has them: of the fullest that does, so that large pods find room."""
        fitting = [free for free in self._free if free.get(resource, 0) >= count]
        if not fitting:
            return False
        min(fitting, key=lambda free: free[resource])[resource] -= count
        return True
