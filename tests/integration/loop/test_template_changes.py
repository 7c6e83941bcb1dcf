"""An operator that would build other pods than its predecessor, as the API server and its controllers see it."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from capstan_contract.names import POD_HASH_LABEL, TRACK_LABEL
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.desired.model import build_model
from capstan_operator.desired.pods import template_hash
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.kube.client import KubeClient
from capstan_operator.loaders.parser import ModelParser
from capstan_operator.resources.api_resource import CONTROLLER_REVISIONS, DEPLOYMENTS, ENDPOINT_SLICES, SERVICES
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings
from support.kubelet import Kubelet
from support.llmmodels import condition, simulated
from support.operator_process import ONE_POD, find
from support.wait import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("controllers"), pytest.mark.timeout(300)]
FIRST_HASH = "0123456789abcdef"


def as_first_release(manifest: Manifest) -> Manifest:
    """Give an object as the first release would have made it."""
    old = copy.deepcopy(manifest)
    metadata, spec = old["metadata"], old["spec"]
    metadata["labels"].pop(TRACK_LABEL, None)
    metadata["annotations"] = {"capstan.dev/applied-hash": "first", "capstan.dev/replicas-from": "LLMModel"}
    selector = spec.get("selector", {})
    selector.get("matchLabels", selector).pop(TRACK_LABEL, None)
    if old["kind"] == "Deployment":
        labels = spec["template"]["metadata"]["labels"]
        labels.pop(TRACK_LABEL)
        labels[POD_HASH_LABEL] = FIRST_HASH
        spec["template"]["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] = 7
    return old


async def put_old(kube: KubeClient, namespace: str, name: str, **spec: Any) -> None:
    """Make an LLMModel and what the first release had made of it."""
    await kube.apply(simulated(name, namespace, **spec), manager="user")
    sent = await kube.get(LLM_MODELS, name, namespace=namespace)
    metadata = {"name": name, "namespace": namespace}
    status = {"observedGeneration": sent["metadata"]["generation"]}
    await kube.apply_status({**_head(), "metadata": metadata, "status": status})
    model = ModelParser().parse(sent)
    for manifest in build_model(model, Snapshot(models={model.key: model}), BuildSettings()).objects:
        await kube.apply(as_first_release(manifest))


def _head() -> dict[str, str]:
    return {"apiVersion": LLM_MODELS.api_version, "kind": LLM_MODELS.kind}


@dataclass
class Seen:
    """What was seen of a namespace while a test went on."""

    fewest_ready: int = 1000
    most_rolling: int = 0
    templates: dict[str, str] = field(default_factory=dict)


async def ready_endpoints(kube: KubeClient, namespace: str) -> int:
    """Give how many endpoints of a namespace are ready."""
    slices = (await kube.list(ENDPOINT_SLICES, namespace=namespace)).items
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or ()]
    return sum(bool(endpoint["conditions"].get("ready")) for endpoint in endpoints)


@asynccontextmanager
async def looking(kube: KubeClient, namespace: str, *, ready: int) -> AsyncIterator[Seen]:
    """Look all the time, until the block ends; from when so many endpoints are ready, which Kubernetes says a moment
    after their pods are."""
    seen = Seen()

    async def are_ready() -> bool:
        return await ready_endpoints(kube, namespace) >= ready

    async def look() -> None:
        while True:
            seen.fewest_ready = min(seen.fewest_ready, await ready_endpoints(kube, namespace))
            deployments = (await kube.list(DEPLOYMENTS, namespace=namespace)).items
            seen.templates = {item["metadata"]["name"]: template_hash(item) for item in deployments}
            seen.most_rolling = max(seen.most_rolling, sum(map(_is_rolling, deployments)))
            await asyncio.sleep(0.02)

    await eventually(are_ready, what=f"{ready} endpoints that are ready", seconds=120)
    task = asyncio.create_task(look())
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _is_rolling(deployment: Manifest) -> bool:
    status = deployment.get("status") or {}
    return bool(status.get("replicas", 0) > status.get("updatedReplicas", 0))


async def test_upgrade_from_the_first_release_touches_no_pod(
    kube: KubeClient, namespace: str, start_operator: Any
) -> None:
    """With its image pinned no pod is replaced, the template in force becomes a revision, and no endpoint is lost; with
    another image each pod follows a new one, and only then the Service selects by track."""
    async with Kubelet(kube, namespace) as kubelet:
        await put_old(kube, namespace, "one", replicas=2)

        async def have_endpoints() -> bool:
            return await ready_endpoints(kube, namespace) == 2

        await eventually(have_endpoints, what="the endpoints of the old pods", seconds=120)
        before = {pod["metadata"]["uid"] for pod in await kubelet.pods()}
        async with looking(kube, namespace, ready=2) as seen:
            operator = start_operator()

            async def waits() -> bool:
                model = await find(kube, LLM_MODELS, "one", namespace)
                return condition(model, "Progressing").get("reason") == "UpdatePending"

            await eventually(waits, what="the update that waits")
            model = await find(kube, LLM_MODELS, "one", namespace)
            assert condition(model, "Ready")["status"] == "True"
            assert {pod["metadata"]["uid"] for pod in await kubelet.pods()} == before
            (revision,) = (await kube.list(CONTROLLER_REVISIONS, namespace=namespace)).items
            assert revision["metadata"]["name"] == f"one-{FIRST_HASH}"
            service = await kube.get(SERVICES, "one-model", namespace=namespace)
            assert TRACK_LABEL not in service["spec"]["selector"]
            assert service["metadata"]["labels"][TRACK_LABEL] == "stable"
            writes = operator.writes()
            assert operator.stop() == 0
            assert writes > 0

            start_operator(CAPSTAN_WORKER_IMAGE="ghcr.io/capstan/worker:0.2.0")

            async def tracked() -> bool:
                found = await kube.get(SERVICES, "one-model", namespace=namespace)
                return bool(found["spec"]["selector"].get(TRACK_LABEL) == "stable")

            await eventually(tracked, what="the Service of the stable track", seconds=120)
            assert not before & {pod["metadata"]["uid"] for pod in await kubelet.pods()}
        assert seen.fewest_ready >= 2
        deployment = await kube.get(DEPLOYMENTS, "one-model", namespace=namespace)
        assert TRACK_LABEL not in deployment["spec"]["selector"]["matchLabels"]
        assert len((await kube.list(CONTROLLER_REVISIONS, namespace=namespace)).items) == 2


async def test_another_image_is_taken_up_in_turn(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """Of five models two at a time follow another worker image, also across a restart of the operator while none of
    the new pods becomes ready; a change of a spec does not wait, and no pod goes before its successor is ready."""
    names = [f"m{number}" for number in range(5)]
    async with Kubelet(kube, namespace) as kubelet:
        for name in names:
            await kube.apply(simulated(name, namespace), manager="user")
        first = start_operator(**ONE_POD)

        async def settled(*reasons: str) -> bool:
            found = [await find(kube, LLM_MODELS, name, namespace) for name in names]
            return all(condition(item, "Progressing").get("reason") in reasons for item in found)

        await eventually(lambda: settled("Complete"), what="the models", seconds=120)
        first.kill()
        old = await kubelet.hashes()
        kubelet.accepts = lambda pod: pod["metadata"]["labels"][POD_HASH_LABEL] in old
        async with looking(kube, namespace, ready=len(names)) as seen:
            image = {"CAPSTAN_WORKER_IMAGE": "ghcr.io/capstan/worker:0.2.0", **ONE_POD}
            second = start_operator(**image)

            def begun() -> set[str]:
                return {name for name, template in seen.templates.items() if template not in old}

            await eventually(lambda: len(begun()) == 2, what="two models on their way", seconds=120)
            await eventually(lambda: settled("UpdatePending", "RollingOut"), what="the others to wait", seconds=120)
            on_their_way = begun()
            second.kill()
            start_operator(**image)
            await kube.apply(simulated("m4", namespace, resources={"cpu": "2m"}), manager="user")
            await eventually(lambda: "m4-model" in begun(), what="the model whose spec has changed", seconds=120)
            assert begun() == on_their_way | {"m4-model"}
            most_rolling, seen.most_rolling = seen.most_rolling, 0
            assert most_rolling <= 3
            kubelet.accepts = lambda _: True
            await eventually(lambda: settled("Complete"), what="everybody's turn", seconds=120)
            assert len(begun()) == len(names)
            assert seen.most_rolling <= 3
        assert seen.fewest_ready >= len(names)
