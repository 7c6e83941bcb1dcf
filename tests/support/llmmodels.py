"""LLMModels for tests, and what can be read off them."""

import json
from typing import Any

from capstan_contract.config import GatewayConfig
from capstan_contract.reading import join_config
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import CONFIG_MAPS
from support.operator_process import find

CONFIG_NAME = "capstan-gateway-config"
CONDITIONS = {"Accepted", "WeightsReady", "Available", "Progressing", "Degraded", "Ready"}


def simulated(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """A model that needs no GPU."""
    return {
        "apiVersion": LLM_MODELS.api_version,
        "kind": "LLMModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"source": "hf://example/tiny"}, "engine": {"type": "Simulator"}, **spec},
    }


def hosted(name: str, namespace: str, **external: Any) -> dict[str, Any]:
    """A model that a hosted API answers: it has no pods."""
    manifest = simulated(name, namespace)
    manifest["spec"] = {"external": {"provider": "OpenAI", "url": "https://api.example.com/v1", **external}}
    return manifest


def condition(manifest: dict[str, Any] | None, type_: str) -> dict[str, Any]:
    """One condition of a model; empty when there is none."""
    conditions = ((manifest or {}).get("status") or {}).get("conditions") or ()
    return next((item for item in conditions if item["type"] == type_), {})


def is_settled(manifest: dict[str, Any] | None) -> bool:
    """Whether all conditions speak of the newest generation."""
    if manifest is None:
        return False
    generation = manifest["metadata"]["generation"]
    conditions = (manifest.get("status") or {}).get("conditions") or ()
    return {item["type"] for item in conditions if item["observedGeneration"] == generation} >= CONDITIONS


async def read_config(kube: KubeClient, namespace: str) -> GatewayConfig | None:
    """The gateway config as a gateway would read it; None before the first one."""
    index = await find(kube, CONFIG_MAPS, CONFIG_NAME, namespace)
    if index is None:
        return None
    documents = dict(index["data"])
    for shard in json.loads(documents["config.json"]).get("shards", ()):
        number = shard.removeprefix("shard-").removesuffix(".json")
        found = await find(kube, CONFIG_MAPS, f"{CONFIG_NAME}-{number}", namespace)
        documents |= (found or {}).get("data", {})
    return join_config(documents)


async def served_names(kube: KubeClient, namespace: str) -> set[str]:
    """The served names in the gateway config."""
    config = await read_config(kube, namespace)
    return {entry.servedName for entry in config.models} if config else set()
