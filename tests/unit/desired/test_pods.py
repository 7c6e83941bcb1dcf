"""Reading live pods: which of them count, and what they ask for."""

from decimal import Decimal
from typing import Any

import pytest

from capstan_operator.desired.pods import (
    are_pods_refused,
    condition_of,
    find_child,
    is_active,
    is_ready,
    pod_hash_of,
    requested,
    template_hash,
    unschedulable,
)

GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("pod", "active"),
    [
        ({"metadata": {}, "status": {"phase": "Running"}}, True),
        ({"metadata": {}, "status": {"phase": "Pending"}}, True),
        ({"metadata": {}}, True),
        ({"metadata": {}, "status": {"phase": "Succeeded"}}, False),
        ({"metadata": {}, "status": {"phase": "Failed"}}, False),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}}, False),
    ],
)
def test_a_pod_counts_until_it_has_ended_or_is_to_end(pod: dict[str, Any], active: bool) -> None:
    """One that is not even placed counts too."""
    assert is_active(pod) is active


def test_conditions_are_read_by_type_and_status() -> None:
    """Absent, and anything but True, is not ready; only the scheduler's own reason is a pod without a node."""

    def pod(kind: str, status: str, **more: str) -> dict[str, Any]:
        return {
            "status": {"conditions": [{"type": "Other", "status": "True"}, {"type": kind, "status": status, **more}]}
        }

    assert is_ready(pod("Ready", "True"))
    assert not is_ready(pod("Ready", "False"))
    assert not is_ready(pod("Ready", "Unknown"))
    assert not is_ready({"status": {}})
    assert not is_ready({})
    assert condition_of({"status": {"conditions": None}}, "Ready") is None
    placed = pod("PodScheduled", "False", reason="Unschedulable", message="no")
    assert (unschedulable(placed) or {})["message"] == "no"
    assert unschedulable(pod("PodScheduled", "False", reason="SchedulingGated")) is None
    assert unschedulable(pod("PodScheduled", "True", reason="Unschedulable")) is None
    assert unschedulable({}) is None
    assert are_pods_refused(pod("ReplicaFailure", "True"))
    assert not are_pods_refused(pod("ReplicaFailure", "False"))
    assert not are_pods_refused({})


def test_children_are_found_by_kind_and_name() -> None:
    """A Service of the Deployment's name is another object."""
    children = [{"kind": kind, "metadata": {"name": name}} for kind in ("A", "B") for name in ("x", "y")]
    assert find_child(children, "B", "x") is children[2]
    assert find_child(children, "C", "x") is None
    assert find_child(children, "A", "z") is None


def test_a_hash_is_read_from_labels_or_is_empty() -> None:
    """Objects of others have no such label, or no labels at all."""
    labels = {"capstan.dev/pod-hash": "h"}
    assert pod_hash_of({"metadata": {"labels": labels}}) == "h"
    assert pod_hash_of({"metadata": {"labels": None}}) == pod_hash_of({"metadata": {"labels": {}}}) == ""
    assert template_hash({"spec": {"template": {"metadata": {"labels": labels}}}}) == "h"
    for spec in ({}, {"template": {}}, {"template": {"metadata": {}}}, {"template": {"metadata": {"labels": None}}}):
        assert template_hash({"spec": spec}) == ""


def container(requests: str | None = None, limits: str | None = None, **more: str) -> dict[str, Any]:
    """Give a container that asks for GPUs."""
    given = {"requests": requests, "limits": limits}
    return {"resources": {key: {GPU: value} for key, value in given.items() if value}, **more}


@pytest.mark.parametrize(
    ("containers", "inits", "asks", "may"),
    [
        ([], [], 0, 0),
        ([container("1"), container("2", "4")], [], 3, 4),
        ([container(None, "2")], [], 2, 2),
        ([{}], [], 0, 0),
        ([container("1")], [container("3")], 3, 0),
        ([container("4")], [container("3"), container("2")], 4, 0),
        ([container("1")], [container("3", restartPolicy="Always")], 4, 0),
        ([container("1")], [container("1", restartPolicy="Always"), container("3")], 3, 0),
    ],
)
def test_a_pod_asks_for_what_the_scheduler_counts(containers: Any, inits: Any, asks: int, may: int) -> None:
    """All that runs together, sidecars included, or the largest init container; limits stand in for requests."""
    spec = {"containers": containers, "initContainers": inits}
    assert requested(spec, GPU) == Decimal(asks)
    assert requested(spec, GPU, of="limits") == Decimal(may)
    assert requested(spec, "other") == 0
    assert requested({}, GPU) == 0
