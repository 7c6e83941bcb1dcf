"""How many GPUs are free, and on which nodes."""

from typing import Any

from capstan_operator.loaders.capacity import free_capacity, gpu_nodes

GPU = "nvidia.com/gpu"


def node(name: str, gpus: str, **spec: Any) -> dict[str, Any]:
    """Give a node with GPUs."""
    return {"metadata": {"name": name}, "spec": spec, "status": {"allocatable": {GPU: gpus, "cpu": "8"}}}


def pod(node_name: str | None, *gpus: int, phase: str = "Running") -> dict[str, Any]:
    """Give a pod with a container per count of GPUs."""
    containers = [{"resources": {"requests": {GPU: str(count)}}} for count in gpus]
    return {"spec": {"nodeName": node_name, "containers": containers}, "status": {"phase": phase}}


def test_free_gpus_are_what_nodes_offer_minus_what_living_pods_request() -> None:
    """Pods that ended, and pods that no node has, hold no GPU."""
    nodes = [node("a", "8"), node("b", "4")]
    pods = [pod("a", 2, 1), pod("a", 4, phase="Succeeded"), pod(None, 4), pod("b", 4)]
    assert [(n.name, dict(n.free)) for n in free_capacity(nodes, pods, frozenset({GPU}))] == [
        ("a", {GPU: 5}),
        ("b", {GPU: 0}),
    ]


def test_an_init_container_counts_once_and_a_sidecar_always() -> None:
    """The scheduler takes the larger of the largest init container and everything that runs together."""
    spec = pod("a", 1)
    spec["spec"]["initContainers"] = [
        {"resources": {"limits": {GPU: "1"}}, "restartPolicy": "Always"},
        {"resources": {"limits": {GPU: "3"}}},
    ]
    assert free_capacity([node("a", "8")], [spec], frozenset({GPU}))[0].free == {GPU: 5}


def test_only_nodes_that_take_pods_and_have_the_resource_count() -> None:
    """Cordoned nodes, nodes that are not ready and nodes without GPUs offer nothing."""
    broken = node("broken", "8")
    broken["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    nodes = [node("good", "8"), node("cordoned", "8", unschedulable=True), node("none", "0"), broken]
    assert [item["metadata"]["name"] for item in gpu_nodes(nodes, frozenset({GPU}))] == ["good"]
