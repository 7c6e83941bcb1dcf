"""The objects around the pods of a model: what finds, protects and feeds them."""

from collections.abc import Mapping
from typing import Any, Final

from capstan_contract.names import COMPONENT_LABEL, ENGINE_PORT, ENGINE_PORT_NAME, GROUP, STABLE, WORKER_PORT
from capstan_operator.api.llmmodel import LLMModelSpec, WeightsCache
from capstan_operator.desired.naming import prefixes_name, selector_labels, weights_name, workload_name
from capstan_operator.desired.pods import find_child
from capstan_operator.desired.quantity import parse_quantity
from capstan_operator.desired.rollout import strategy
from capstan_operator.desired.types import RolloutMode
from capstan_operator.desired.volumes import PREFIXES_FILE, prefixes_json
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings

RETAIN_ANNOTATION: Final = f"{GROUP}/retain"
"""On the claim for the weights: `cache.retain`, which is still to be known when `cache` is gone."""
CLIENT_COMPONENTS: Final = ("gateway", "operator")
"""Components of the install namespace that talk to model pods."""


def build_deployment(
    name: str,
    template: Manifest,
    *,
    selector: Mapping[str, str],
    replicas: int | None,
    mode: RolloutMode,
    deadline: int,
    annotations: Mapping[str, str],
    track: str = STABLE,
) -> Manifest:
    """Give the Deployment. `replicas` None: somebody else says how many there are. `selector` cannot change."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": workload_name(name, track), "annotations": dict(annotations)},
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "selector": {"matchLabels": dict(selector)},
            "strategy": strategy(mode),
            "progressDeadlineSeconds": deadline,
            "revisionHistoryLimit": 2,
            "template": template,
        },
    }


def build_service(name: str, selector: Mapping[str, str], track: str = STABLE) -> Manifest:
    """Give the headless Service whose EndpointSlices the gateway watches."""
    port = {"name": ENGINE_PORT_NAME, "port": ENGINE_PORT, "targetPort": ENGINE_PORT_NAME, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": workload_name(name, track)},
        "spec": {"clusterIP": "None", "selector": dict(selector), "ports": [port]},
    }


def build_disruption_budget(name: str, selector: Mapping[str, str], track: str = STABLE) -> Manifest:
    """Give the budget that lets a drain take one pod at a time, and every pod that is not ready."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": workload_name(name, track)},
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": dict(selector)},
            # Pods that are not ready serve nobody: a model that is broken must not keep a node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def has_disruption_budget(spec: LLMModelSpec) -> bool:
    """Say whether a model has several replicas, or may have: an autoscaler must not make the budget come and go."""
    return (spec.scaling.max if spec.scaling else spec.replicas) > 1


def build_network_policy(name: str, settings: BuildSettings) -> Manifest:
    """Give the NetworkPolicy that lets in only the gateway and the operator, to the pods of every track."""
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.install_namespace}},
        "podSelector": {
            "matchExpressions": [{"key": COMPONENT_LABEL, "operator": "In", "values": list(CLIENT_COMPONENTS)}]
        },
    }
    ports = [{"port": port, "protocol": "TCP"} for port in (ENGINE_PORT, WORKER_PORT)]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": workload_name(name)},
        "spec": {
            "podSelector": {"matchLabels": selector_labels(name)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [peer], "ports": ports}],
        },
    }


def build_prefixes(name: str, spec: LLMModelSpec) -> Manifest:
    """Give the ConfigMap with the prefixes that the worker warms up."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": prefixes_name(name)},
        "data": {PREFIXES_FILE: prefixes_json(spec)},
    }


def build_claim(name: str, cache: WeightsCache, children: tuple[Manifest, ...]) -> Manifest:
    """Give the claim for the weights. It never asks for less than it has, which the API server would refuse."""
    spec: dict[str, Any] = {
        "accessModes": [cache.accessMode],
        "resources": {
            "requests": {
                "storage": _largest(cache.size, find_child(children, "PersistentVolumeClaim", weights_name(name)))
            }
        },
    }
    if cache.storageClassName:
        spec["storageClassName"] = cache.storageClassName
    metadata: dict[str, Any] = {"name": weights_name(name)}
    if cache.retain is not None:
        metadata["annotations"] = {RETAIN_ANNOTATION: str(cache.retain).lower()}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def is_thrown_away(claim: Manifest) -> bool:
    """Say whether the manifest that made a claim wanted it gone together with `cache`."""
    return (claim["metadata"].get("annotations") or {}).get(RETAIN_ANNOTATION) == "false"


def _largest(size: str | None, live: Manifest | None) -> str:
    requested = ((live or {}).get("spec", {}).get("resources") or {}).get("requests", {}).get("storage")
    wanted, present = parse_quantity(size), parse_quantity(requested)
    return str(requested) if wanted is not None and present is not None and present > wanted else str(size)
