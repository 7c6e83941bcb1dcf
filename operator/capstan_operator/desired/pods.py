"""Reading live Deployments and pods."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from capstan_contract.names import POD_HASH_LABEL
from capstan_operator.desired.quantity import parse_quantity
from capstan_operator.resources.resource import Manifest

UNSCHEDULABLE: Final = "Unschedulable"


def find_child(children: Iterable[Manifest], kind: str, name: str) -> Manifest | None:
    """Give the child of a kind with a name, if there is one."""
    found = (child for child in children if child.get("kind") == kind and child["metadata"].get("name") == name)
    return next(found, None)


def condition_of(manifest: Manifest, kind: str) -> Mapping[str, Any] | None:
    """Give a condition of any object by its type."""
    conditions = (manifest.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == kind), None)


def template_hash(deployment: Manifest) -> str:
    """Give the pod hash of a Deployment's template; "" when it has none."""
    labels = deployment["spec"].get("template", {}).get("metadata", {}).get("labels") or {}
    return str(labels.get(POD_HASH_LABEL, ""))


def pod_hash_of(pod: Manifest) -> str:
    """Give the hash of the template that a pod was made from."""
    return str((pod["metadata"].get("labels") or {}).get(POD_HASH_LABEL, ""))


def is_active(pod: Manifest) -> bool:
    """Say whether a pod runs or will run: neither finished nor being deleted."""
    phase = (pod.get("status") or {}).get("phase")
    return not pod["metadata"].get("deletionTimestamp") and phase not in ("Succeeded", "Failed")


def is_ready(pod: Manifest) -> bool:
    """Say whether a pod takes requests."""
    ready = condition_of(pod, "Ready")
    return ready is not None and ready.get("status") == "True"


def unschedulable(pod: Manifest) -> Mapping[str, Any] | None:
    """Give the condition that says why no node takes a pod, if none does."""
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled and scheduled.get("status") == "False" and scheduled.get("reason") == UNSCHEDULABLE:
        return scheduled
    return None


def are_pods_refused(deployment: Manifest) -> bool:
    """Say whether the API server refuses to make pods of a Deployment (quota, admission)."""
    failure = condition_of(deployment, "ReplicaFailure")
    return failure is not None and failure.get("status") == "True"


def requested(pod_spec: Mapping[str, Any], resource: str, *, of: str = "requests") -> Decimal:
    """Give what a pod asks of a resource, as the scheduler counts it: the containers and sidecars together, or the
    largest ordinary init container. `of` is "requests" (where limits stand in for what is not said) or "limits"."""

    def one(container: Mapping[str, Any]) -> Decimal:
        resources = container.get("resources") or {}
        found = (resources.get(of) or {}).get(resource)
        if found is None and of == "requests":
            found = (resources.get("limits") or {}).get(resource)
        return parse_quantity(found) or Decimal(0)

    inits = pod_spec.get("initContainers") or []
    sidecars = sum(one(container) for container in inits if container.get("restartPolicy") == "Always")
    together = sum(one(container) for container in pod_spec.get("containers") or []) + sidecars
    # A sidecar by itself is never more than all together.
    return max([Decimal(together), *map(one, inits)])
