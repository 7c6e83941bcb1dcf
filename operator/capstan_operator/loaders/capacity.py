"""Free GPUs of the nodes: pure arithmetic over nodes and pods."""

from collections import defaultdict
from collections.abc import Iterable

from capstan_operator.desired.pods import requested
from capstan_operator.desired.quantity import parse_quantity
from capstan_operator.desired.snapshot import NodeCapacity
from capstan_operator.resources.resource import Manifest


def gpu_nodes(nodes: Iterable[Manifest], resources: frozenset[str]) -> list[Manifest]:
    """Give the nodes that are ready, take new pods, and offer one of the extended resources."""
    return [
        node
        for node in nodes
        if not (node.get("spec") or {}).get("unschedulable")
        and _is_ready(node)
        and any(_count(_allocatable(node).get(resource)) > 0 for resource in resources)
    ]


def free_capacity(
    nodes: Iterable[Manifest], pods: Iterable[Manifest], resources: frozenset[str]
) -> tuple[NodeCapacity, ...]:
    """Give what each node offers of `resources` minus what the pods on it request. Pods that ended hold nothing."""
    used: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for pod in pods:
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        if spec.get("nodeName") and status.get("phase") not in ("Succeeded", "Failed"):
            for resource in resources:
                used[spec["nodeName"]][resource] += int(requested(spec, resource))
    return tuple(
        NodeCapacity(
            name=node["metadata"]["name"],
            labels=node["metadata"].get("labels") or {},
            free={
                resource: max(offered - used[node["metadata"]["name"]][resource], 0)
                for resource in sorted(resources)
                if (offered := _count(_allocatable(node).get(resource))) > 0
            },
        )
        for node in sorted(nodes, key=lambda node: str(node["metadata"]["name"]))
    )


def _allocatable(node: Manifest) -> Manifest:
    allocatable: Manifest = (node.get("status") or {}).get("allocatable") or {}
    return allocatable


def _is_ready(node: Manifest) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return all(c.get("status") == "True" for c in conditions if c.get("type") == "Ready")


def _count(quantity: object) -> int:
    value = parse_quantity(quantity) if quantity is not None else None
    return int(value) if value is not None else 0
