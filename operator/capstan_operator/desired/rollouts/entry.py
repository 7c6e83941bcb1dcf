"""What the gateway's config says of a canary."""

from capstan_contract.config import Canary, ModelEntry, ServiceBackend
from capstan_contract.names import CANARY, ENGINE_PORT_NAME
from capstan_operator.api.kinds import Model
from capstan_operator.desired.naming import upstream_name, workload_name
from capstan_operator.desired.rollouts.machine import try_of
from capstan_operator.desired.rollouts.memory import State, read_memory
from capstan_operator.desired.rollouts.revisions import has_steps

_ENDED = (State.COMPLETE, State.ROLLED_BACK)


def build_canary(model: Model, entry: ModelEntry) -> Canary | None:
    """Give the canary of a model as its status says: from when it comes up, with no requests before its first step."""
    newest = model.tried or model.spec
    memory = read_memory(model.status) if has_steps(model) else None
    if memory is None or newest is None or memory.candidate is None or memory.state in _ENDED:
        return None
    if not isinstance(entry.backend, ServiceBackend) or (memory.state == State.PROMOTING and not memory.weight):
        return None
    upstream = upstream_name(Model(key=model.key, uid=model.uid, generation=0, created="", spec=newest))
    serving = newest.serving
    return Canary(
        id=try_of(memory),
        revision=memory.candidate,
        weight=float(memory.weight or 0),
        backend=ServiceBackend(
            namespace=model.key.namespace, service=workload_name(model.key.name, CANARY), portName=ENGINE_PORT_NAME
        ),
        upstreamName="" if upstream == entry.upstreamName else upstream,
        contextWindow=serving.contextWindow if serving.contextWindow != entry.contextWindow else None,
    )


def kept_canary(model: Model, canary: Canary | None) -> Canary | None:
    """Give what is left of a canary in an entry that stays as it is: a spec that cannot be used gives none that has
    failed its requests back."""
    memory = read_memory(model.status)
    if canary is None or memory is None:
        return canary
    is_over = memory.state in _ENDED or (canary.id == try_of(memory) and not memory.weight)
    return None if is_over else canary
