"""At rest nothing is written, counted by the API server itself."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client as api
from kubernetes.aio import config as loader

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import PODS
from support.llmmodels import hosted, is_settled, simulated
from support.wait import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("controllers")]

MODELS = 200
VIRTUAL = 5
"""Cascades, and as many routers over them."""
OURS = {
    ("llmmodels", "status"),
    ("llmmodels", ""),
    ("deployments", ""),
    ("controllerrevisions", ""),
    ("services", ""),
    ("configmaps", ""),
    ("secrets", ""),
    ("persistentvolumeclaims", ""),
    ("poddisruptionbudgets", ""),
    ("networkpolicies", ""),
}
"""What the operator may write, and no controller of Kubernetes does."""
WRITES = {"POST", "PUT", "PATCH", "DELETE", "APPLY"}


async def count_writes(kubeconfig: Path) -> Counter[tuple[str, str]]:
    """Read the API server's own count of writes, by resource and subresource."""
    configuration = api.Configuration()
    await loader.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    async with api.ApiClient(configuration) as client:
        response = await client.call_api("GET", f"{configuration.host}/metrics", header_params={})
        text = (await response.read()).decode()
    counts: Counter[tuple[str, str]] = Counter()
    for labels, value in re.findall(r"^apiserver_request_total\{(.*?)\} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="(.*?)"', labels))
        if named["verb"] in WRITES and (named["resource"], named["subresource"]) in OURS:
            counts[named["resource"], named["subresource"]] += int(float(value))
    return counts


@pytest.mark.timeout(900)
async def test_a_second_pass_over_200_models_writes_nothing(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any
) -> None:
    """200 LLMModels, every other one hosted elsewhere, and virtual ones that name them settle; a full resync after that
    makes no write to any object, status included."""
    for number in range(MODELS):
        extra = {"replicas": 2, "prefixes": [{"name": "p", "system": "hello"}]} if number % 10 == 0 else {}
        name = f"m-{number:03}"
        model = hosted(name, namespace) if number % 2 else simulated(name, namespace, **extra)
        await kube.apply(model, manager="user")
    for number in range(VIRTUAL):
        named = {"members": [{"name": f"m-{number:03}"}, {"name": f"m-{number + 100:03}"}]}
        cascade = {**simulated(f"c-{number}", namespace), "spec": {"cascade": named}}
        router = {**simulated(f"r-{number}", namespace), "spec": {"router": {"members": [{"name": f"c-{number}"}]}}}
        await kube.apply(router, manager="user")
        await kube.apply(cascade, manager="user")
    operator = start_operator(CAPSTAN_RESYNC_SECONDS="6")

    async def at_rest() -> bool:
        models = (await kube.list(LLM_MODELS, namespace=namespace)).items
        pods = (await kube.list(PODS, namespace=namespace)).items
        # Pods come slowly, by Kubernetes' own controller; each changes its model's status.
        return all(map(is_settled, models)) and sum(m["status"].get("replicas", 0) for m in models) == len(pods) == 120

    await eventually(at_rest, seconds=400, every=1.0, what="settled models with all of their pods")
    written: list[Counter[tuple[str, str]]] = [Counter()]

    async def resyncs(further: int) -> None:
        passes = operator.log.count('"resynced"') + further
        await eventually(lambda: operator.log.count('"resynced"') >= passes, seconds=120, what=f"{further} resyncs")

    async def is_quiet() -> bool:
        # What Kubernetes' controllers still say of Deployments, and what is deleted of tests before this one, comes as
        # slowly as the machine is busy.
        await resyncs(1)
        written.append(await count_writes(kube_api))
        return written[-1] == written[-2]

    await eventually(is_quiet, seconds=300, what="the last write")
    before = written[-1]
    assert before["llmmodels", "status"] >= MODELS
    await resyncs(2)  # a whole pass lies between them
    assert await count_writes(kube_api) - before == Counter()
    assert operator.metric("capstan_operator_reconciles_total", of="model", result="ok") >= 2 * MODELS
    assert operator.metric("capstan_operator_reconciles_total", of="model", result="bug") == 0
