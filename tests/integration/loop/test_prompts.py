"""A prompt in a ConfigMap, on a real API server: it comes, changes and goes."""

from typing import Any

import pytest

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.desired.naming import workload_name
from capstan_operator.desired.pod import PREFIXES_ANNOTATION
from capstan_operator.desired.prompts import last_of_children
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import CONFIG_MAPS, DEPLOYMENTS
from integration.loop.conftest import StartOperator
from support.llmmodels import condition, read_config, simulated
from support.operator_process import find
from support.wait import eventually

pytestmark = pytest.mark.apiserver
FOUND_AGAIN = 120.0
"""Seconds within which a change of a ConfigMap is surely seen: it is read every half minute."""


def config_map(namespace: str, **data: str) -> dict[str, Any]:
    """The ConfigMap with the prompts."""
    metadata = {"name": "prompts", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def test_a_prompt_comes_changes_and_goes(kube: KubeClient, namespace: str, start_operator: StartOperator) -> None:
    """What is missing is said by its own reason; the text reaches the gateway and new pods, a change of it too, and
    when the ConfigMap is gone the last text serves on, also under an operator that has never read it."""
    first = start_operator()
    source = {"configMapKeyRef": {"name": "prompts", "key": "rules"}}
    await kube.apply(simulated("one", namespace, prefixes=[{"name": "house", "systemFrom": source}]), manager="user")

    async def is_said(reason: str) -> bool:
        degraded = condition(await find(kube, LLM_MODELS, "one", namespace), "Degraded")
        return degraded.get("reason") == reason

    async def is_in_force(prompts: dict[str, str]) -> bool:
        config = await read_config(kube, namespace)
        named = {one.name: one.system for entry in config.models for one in entry.prefixes} if config else None
        child = await find(kube, CONFIG_MAPS, "one-prefixes", namespace)
        warm = last_of_children("one", [] if child is None else [{**child, "kind": "ConfigMap"}])
        return named == warm == prompts

    async def template() -> str:
        deployment: dict[str, Any] = await find(kube, DEPLOYMENTS, workload_name("one"), namespace) or {}
        return str(deployment["spec"]["template"]["metadata"]["annotations"][PREFIXES_ANNOTATION])

    await eventually(lambda: is_said("ConfigMapNotFound"), what="a word about the ConfigMap")
    await kube.apply(config_map(namespace, other="x"), manager="user")
    await eventually(lambda: is_said("ConfigMapKeyNotFound"), what="a word about its key")
    await kube.apply(config_map(namespace, rules="Be kind."), manager="user")
    await eventually(lambda: is_in_force({"house": "Be kind."}), what="the prompt")
    await eventually(lambda: is_said("AsExpected"), what="a model of which nothing is wrong")
    before = await template()
    await kube.apply(config_map(namespace, rules="Be brief."), manager="user")
    await eventually(lambda: is_in_force({"house": "Be brief."}), what="the other prompt", seconds=FOUND_AGAIN)

    async def has_changed() -> bool:
        return await template() != before

    await eventually(has_changed, what="another template of the pods, which is written after the prompt")
    await kube.delete(CONFIG_MAPS, "prompts", namespace=namespace)
    first.stop()
    start_operator()
    await eventually(lambda: is_said("ConfigMapNotFound"), what="a word about its end", seconds=FOUND_AGAIN)
    await kube.apply(
        simulated("one", namespace, replicas=2, prefixes=[{"name": "house", "systemFrom": source}]), manager="user"
    )

    async def is_seen() -> bool:
        deployment = await find(kube, DEPLOYMENTS, workload_name("one"), namespace)
        return bool(deployment and deployment["spec"]["replicas"] == 2)

    await eventually(is_seen, what="a new operator at work")
    assert await is_in_force({"house": "Be brief."})
