"""ConfigMaps and Secrets that a pod mounts, and without which its node cannot prepare it. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from capstan_operator.desired.pods import condition_of, is_active
from capstan_operator.resources.resource import Manifest


class Mounted(NamedTuple):
    """What a pod mounts of one volume."""

    kind: str
    """ConfigMap or Secret."""
    name: str
    keys: tuple[str, ...]
    """The keys that must be there; empty: any."""


def mounted_by(pod: Manifest) -> tuple[Mounted, ...]:
    """Give what a pod cannot start without, in the order of its volumes."""
    return tuple(dict.fromkeys(_of_volumes((pod.get("spec") or {}).get("volumes") or ())))


def waits_for_mounts(pod: Manifest) -> bool:
    """Say whether a node has taken a pod and has not prepared it yet, so that nothing of it has run."""
    status = pod.get("status") or {}
    prepared, placed = condition_of(pod, "PodReadyToStartContainers") or {}, condition_of(pod, "PodScheduled") or {}
    if prepared.get("status") != "False" or placed.get("status") != "True" or not is_active(pod):
        return False
    containers = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    return not any(map(_has_run, containers))


def missing_of(mounted: Mounted, found: Manifest | None) -> str | None:
    """Say what is missing of it, and what to do; None where all is there."""
    if found is None:
        return f"the {mounted.kind} '{mounted.name}', which does not exist: create it in the namespace of the model"
    there = {**(found.get("data") or {}), **(found.get("binaryData") or {})}
    key = next((key for key in mounted.keys if key not in there), None)
    return None if key is None else f"the key '{key}', which the {mounted.kind} '{mounted.name}' does not have: add it"


def _has_run(container: Mapping[str, Any]) -> bool:
    ended = (container.get("state") or {}).get("terminated") or (container.get("lastState") or {}).get("terminated")
    return bool(container.get("ready") or container.get("restartCount") or ended)


def _of_volumes(volumes: Iterable[Mapping[str, Any]]) -> Iterator[Mounted]:
    for volume in volumes:
        yield from _of_source(volume)
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from _of_source(source)


def _of_source(source: Mapping[str, Any]) -> Iterator[Mounted]:
    for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
        found = source.get(field)
        if isinstance(found, Mapping) and not found.get("optional"):
            keys = tuple(str(item.get("key")) for item in found.get("items") or ())
            # NB: a volume calls a Secret otherwise than a projected source does.
            yield Mounted(kind, str(found.get("name") or found.get("secretName")), keys)
