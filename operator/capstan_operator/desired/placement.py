"""Whether a new pod could be where an old one is: what a pod says of the nodes that it may run on."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

_FIELDS: Final = (
    "nodeSelector",
    "affinity",
    "runtimeClassName",
    "schedulerName",
    "hostNetwork",
)
_DEFAULTS: Final = {"schedulerName": "default-scheduler"}
_NODE_TAINTS: Final = "node.kubernetes.io/"
_KEEPS_AWAY: Final = ("NoSchedule", "NoExecute")


def is_placed_alike(new: Mapping[str, Any], old: Mapping[str, Any], *, gpu_resource: str) -> bool:
    """Say whether two pod specs ask for the same nodes, so that what one gives back there is of use to the other.

    What the API server adds to a pod (tolerations of a node's own taints, and of the GPU's) is no difference. Whether
    two different wishes are met by the same node is not looked into: in doubt they are not.
    """
    alike = all(_said(new, field) == _said(old, field) for field in _FIELDS)
    return (
        alike
        and _claims(new) == _claims(old)
        and _spread(new) == _spread(old)
        and _host_ports(new) == _host_ports(old)
        and _tolerations(new, gpu_resource) == _tolerations(old, gpu_resource)
    )


def place_of(spec: Mapping[str, Any], *, gpu_resource: str) -> str:
    """Give what a pod spec asks of nodes, the same text for pods of two models that ask the same.

    Claims are no part of it: each model has its own.
    """
    said = {field: _said(spec, field) for field in _FIELDS}
    return json.dumps([said, sorted(_spread(spec)), _tolerations(spec, gpu_resource)], sort_keys=True, default=str)


def takes_new_pods(node: Mapping[str, Any], pod_spec: Mapping[str, Any]) -> bool:
    """Say whether a node is neither cordoned nor has a taint that the pod does not tolerate: pressure and a node that
    is not ready are taints too."""
    spec = node.get("spec") or {}
    tolerations = pod_spec.get("tolerations") or ()
    taints = [taint for taint in spec.get("taints") or () if taint.get("effect") in _KEEPS_AWAY]
    return not spec.get("unschedulable") and all(any(_tolerates(one, taint) for one in tolerations) for taint in taints)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    exists = toleration.get("operator") == "Exists"
    if not toleration.get("key"):
        return exists
    same_value = (toleration.get("value") or "") == (taint.get("value") or "")
    return toleration["key"] == taint.get("key") and (exists or same_value)


def _said(spec: Mapping[str, Any], field: str) -> Any:
    return spec.get(field) or _DEFAULTS.get(field)


def _tolerations(spec: Mapping[str, Any], gpu_resource: str) -> list[str]:
    said: Iterable[Mapping[str, Any]] = spec.get("tolerations") or ()
    return sorted(
        str(sorted(one.items()))
        for one in said
        if one.get("key") != gpu_resource and not str(one.get("key") or "").startswith(_NODE_TAINTS)
    )


def _spread(spec: Mapping[str, Any]) -> set[tuple[str, int]]:
    """How pods must be spread; a wish keeps no pod from a node."""
    constraints: Iterable[Mapping[str, Any]] = spec.get("topologySpreadConstraints") or ()
    return {
        (str(one.get("topologyKey")), int(one.get("maxSkew") or 0))
        for one in constraints
        if one.get("whenUnsatisfiable") != "ScheduleAnyway"
    }


def _claims(spec: Mapping[str, Any]) -> set[str]:
    claims = (volume.get("persistentVolumeClaim") or {} for volume in spec.get("volumes") or ())
    return {str(claim["claimName"]) for claim in claims if claim}


def _host_ports(spec: Mapping[str, Any]) -> set[int]:
    ports = (port for container in spec.get("containers") or () for port in container.get("ports") or ())
    return {port["hostPort"] for port in ports if port.get("hostPort")}
