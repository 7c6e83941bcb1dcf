"""The loop's pure parts: capacity, back-off, answers of the API server, echoes, config objects, status of a bug."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from capstan_contract.config import GatewayConfig, ModelEntry, ServiceBackend, join_config, split_config
from capstan_contract.names import CONFIG_FILE
from capstan_operator.api.kinds import LLM_MODELS, Model
from capstan_operator.backoff import Backoff
from capstan_operator.desired.config_maps import build_config_maps
from capstan_operator.desired.types import Verdict
from capstan_operator.errors import Retryable
from capstan_operator.gateway_config.acknowledge import ready_addresses
from capstan_operator.gateway_config.reconciler import GatewayState, Judged
from capstan_operator.kube.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Unavailable,
    UnknownResource,
    error_of,
    parse_retry_after,
)
from capstan_operator.loaders.capacity import free_capacity, gpu_nodes
from capstan_operator.logs import JsonFormatter
from capstan_operator.models.reconciler import status_of_bug
from capstan_operator.resources.api_resource import DEPLOYMENTS, NODES
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import Settings
from capstan_operator.watch.watches import Echoes

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


def test_back_off_grows_to_its_bound() -> None:
    """Waits double up to the bound, with jitter between half and all of it, whatever the count of failures."""
    backoff = Backoff(first=1.0, factor=2.0, most=10.0)
    assert [backoff.delay(n, random=lambda: 1.0) for n in (1, 2, 3, 4, 5, 5000)] == [1, 2, 4, 8, 10, 10]
    assert backoff.delay(1, random=lambda: 0.0) == 0.5


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("3", 3.0), ("-1", None), ("soon", None), ("9999", 60.0)]
)
def test_retry_after_is_read_and_bounded(header: str | None, seconds: float | None) -> None:
    """A number of seconds counts, up to a bound; anything else is as if it were absent."""
    assert parse_retry_after(header) == seconds


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"details": {"name": "x"}}, NotFound),
        (404, {"details": {}}, UnknownResource),
        (404, None, UnknownResource),
        (403, {}, Forbidden),
        (409, {}, Conflict),
        (422, {}, Invalid),
        (429, {}, Unavailable),
        (500, None, Unavailable),
        (503, {}, Unavailable),
    ],
)
def test_answers_become_the_error_that_the_caller_acts_on(status: int, body: Any, kind: type[Exception]) -> None:
    """Each status has one meaning, and only what may pass by itself is retryable."""
    error = error_of(status, body, what="get x", after=2.0)
    assert type(error) is kind
    assert isinstance(error, Retryable) is (kind is Unavailable)


def test_paths_follow_the_api() -> None:
    """Core and grouped, cluster-wide and namespaced resources are addressed as Kubernetes addresses them."""
    assert NODES.path(name="n") == "/api/v1/nodes/n"
    assert DEPLOYMENTS.path() == "/apis/apps/v1/deployments"
    assert LLM_MODELS.path("ns", "m", "status") == "/apis/capstan.dev/v1alpha1/namespaces/ns/llmmodels/m/status"


def test_an_echo_is_recognised_once() -> None:
    """An event with the resourceVersion of our own write is no news; any other one is."""
    now = [0.0]
    echoes = Echoes(clock=lambda: now[0])
    written = {"metadata": {"uid": "u", "resourceVersion": "7"}}
    echoes.note(DEPLOYMENTS, written)
    now[0] = 0.25
    assert echoes.lag(LLM_MODELS, written) is None
    assert echoes.lag(DEPLOYMENTS, {"metadata": {"uid": "u", "resourceVersion": "8"}}) is None
    assert echoes.lag(DEPLOYMENTS, written) == 0.25
    assert echoes.lag(DEPLOYMENTS, written) is None


def test_echoes_are_bounded() -> None:
    """The oldest write is forgotten first, which costs one needless comparison and no more."""
    echoes = Echoes(most=2)
    versions = [{"metadata": {"uid": "u", "resourceVersion": str(n)}} for n in range(3)]
    for written in versions:
        echoes.note(DEPLOYMENTS, written)
    assert echoes.lag(DEPLOYMENTS, versions[0]) is None
    assert echoes.lag(DEPLOYMENTS, versions[2]) is not None


def config_of(count: int) -> GatewayConfig:
    """Give a config of so many models."""
    backend = ServiceBackend(namespace="ns", service="s", portName="http")
    return GatewayConfig.build(
        tuple(
            ModelEntry(id=f"ns/m{n}", generation=1, servedName=f"m{n}", upstreamName=f"m{n}", backend=backend)
            for n in range(count)
        )
    )


def test_config_maps_are_written_index_last_and_read_back() -> None:
    """The objects hold exactly the documents of the contract, shards before the index that names them."""
    config = config_of(40)
    maps = build_config_maps(split_config(config, shard_bytes=4096), Settings())
    names = [item["metadata"]["name"] for item in maps]
    assert len(names) > 3
    assert names[-1] == "capstan-gateway-config"
    assert names[0] == "capstan-gateway-config-1"
    documents = {file: text for item in maps for file, text in item["data"].items()}
    assert join_config(documents) == config
    assert list(maps[-1]["data"]) == [CONFIG_FILE]


def model(generation: int = 1, status: dict[str, Any] | None = None) -> Model:
    """Give a model as the API server knows it."""
    return Model(key=ObjectKey("ns", "m"), uid="u", generation=generation, created="", spec=None, status=status or {})


def test_a_verdict_counts_only_for_its_generation() -> None:
    """A status must not be computed from what was said about an older spec, or another object of that name."""
    state = GatewayState(judged={ObjectKey("ns", "m"): Judged("u", 2, Verdict(True, "Accepted", ""))})
    assert state.verdict(model(2)) is not None
    assert not state.awaiting
    assert state.verdict(model(3)) is None
    assert state.awaiting == {ObjectKey("ns", "m")}


def test_a_bug_shows_as_ready_unknown_and_stays_stable() -> None:
    """The other conditions stay; a second failure writes nothing new."""
    accepted = {"type": "Accepted", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    first = status_of_bug(model(3, {"conditions": [accepted], "replicas": 2}), datetime(2026, 1, 2, tzinfo=UTC))
    assert first["replicas"] == 2
    assert first["conditions"][0] == accepted
    assert first["conditions"][1]["status"] == "Unknown"
    assert status_of_bug(model(3, first), datetime(2026, 1, 3, tzinfo=UTC)) == first


def test_ready_addresses_are_those_that_are_not_unready() -> None:
    """`ready` absent means ready; an address in two slices counts once."""
    slices = [
        {"endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": False}}]},
        {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]},
        {"endpoints": None},
    ]
    assert ready_addresses(slices) == ("10.0.0.1",)


def test_a_log_line_is_one_json_object_with_its_fields() -> None:
    """Constant message, variable fields, and no field of logging itself or of kopf."""
    record = logging.makeLogRecord({"msg": "applied object", "levelname": "INFO", "model": "ns/m", "k8s_ref": {"a": 1}})
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "applied object"
    assert line["model"] == "ns/m"
    assert "k8s_ref" not in line
    assert "args" not in line
