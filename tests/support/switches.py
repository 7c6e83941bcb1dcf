"""What tests of the chart's switches share: values that all its pods have, and finding something in a workload."""

from typing import Any

KINDS = {"operator": "Deployment", "gateway": "Deployment", "scorer": "Deployment", "redis": "StatefulSet"}
"""The components, and what each is."""

VOLUME = {"name": "more", "emptyDir": {}}
OTHER = {"name": "other", "image": "example.com/other:1"}
SPREAD = {"topologyKey": "example.com/rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}
POD_SWITCHES: dict[str, tuple[Any, str]] = {
    "podLabels": ({"team": "ml"}, "template.metadata.labels"),
    "podAnnotations": ({"a/b": "c"}, "template.metadata.annotations"),
    "podSecurityContext": ({"fsGroupChangePolicy": "OnRootMismatch"}, "pod.securityContext"),
    "containerSecurityContext": ({"runAsUser": 1000680000}, "container.securityContext"),
    "startupProbe": ({"failureThreshold": 77}, "container.startupProbe"),
    "livenessProbe": ({"failureThreshold": 77}, "container.livenessProbe"),
    "readinessProbe": ({"failureThreshold": 77}, "container.readinessProbe"),
    "lifecycle": ({"preStop": {"sleep": {"seconds": 3}}}, "container.lifecycle"),
    "extraEnv": ([{"name": "A", "value": "b"}], "container.env"),
    "extraEnvFrom": ([{"secretRef": {"name": "s"}}], "container.envFrom"),
    "extraVolumes": ([VOLUME], "pod.volumes"),
    "extraVolumeMounts": ([{"name": "more", "mountPath": "/more"}], "container.volumeMounts"),
    "initContainers": ([OTHER], "pod.initContainers"),
    "extraContainers": ([OTHER], "pod.containers"),
    "topologySpreadConstraints": ([{**SPREAD, "labelSelector": {}}], "pod.topologySpreadConstraints"),
    "dnsPolicy": ("Default", "pod.dnsPolicy"),
    "dnsConfig": ({"options": [{"name": "ndots", "value": "2"}]}, "pod.dnsConfig"),
    "hostAliases": ([{"ip": "10.0.0.1", "hostnames": ["hub.example.com"]}], "pod.hostAliases"),
    "runtimeClassName": ("gvisor", "pod.runtimeClassName"),
    "nodeSelector": ({"a": "b"}, "pod.nodeSelector"),
    "tolerations": ([{"operator": "Exists"}], "pod.tolerations"),
    "affinity": ({"nodeAffinity": {}}, "pod.affinity"),
    "priorityClassName": ("high", "pod.priorityClassName"),
    "resources": ({"limits": {"memory": "7Gi"}}, "container.resources"),
}
"""Every value that all four have: what it is set to, and where in the workload that must be found."""


def place(item: dict[str, Any], path: str) -> Any:
    """Give what is there, None for nothing; `template`, `pod` and `container` (its first) are those of a workload."""
    first, *rest = path.split(".")
    found: Any = item
    if first in ("template", "pod", "container"):
        found = item["spec"]["template"]
        found = found if first == "template" else found["spec"]
        found = found["containers"][0] if first == "container" else found
    else:
        rest = [first, *rest]
    for key in rest:
        if isinstance(found, list):
            found = found[int(key)] if int(key) < len(found) else None
        else:
            found = found.get(key) if isinstance(found, dict) else None
    return found


def has(found: Any, wanted: Any) -> bool:
    """Whether what was asked for is there, beside what is there anyway."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and has(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return all(item in found for item in wanted)
    return bool(found == wanted)
