"""Profiles in ConfigMaps, on a real API server: they come, change, break and go, and nothing that serves is lost."""

from typing import Any

import pytest

from capstan_contract.names import COMPONENT_LABEL, POD_HASH_LABEL
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.desired.naming import workload_name
from capstan_operator.desired.pods import template_hash
from capstan_operator.desired.profiles import PROFILES_COMPONENT
from capstan_operator.desired.template_changes import CAUSE_ANNOTATION
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import CONFIG_MAPS, DEPLOYMENTS
from capstan_operator.resources.resource import Manifest
from integration.loop.conftest import StartOperator
from integration.loop.test_template_changes import looking
from support.kubelet import Kubelet
from support.llmmodels import condition, read_config, simulated
from support.operator_process import find
from support.wait import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("controllers"), pytest.mark.timeout(300)]
SEEN = 90.0
"""Seconds within which something surely comes to be on a busy machine."""


def profiles(namespace: str, text: str) -> Manifest:
    """A ConfigMap with one profile, as a platform team writes it: with one label, and none of ours."""
    metadata = {"name": "profiles", "namespace": namespace, "labels": {COMPONENT_LABEL: PROFILES_COMPONENT}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"small": text}}


async def accepted(kube: KubeClient, name: str, namespace: str) -> dict[str, Any]:
    """The condition Accepted of a model."""
    return condition(await find(kube, LLM_MODELS, name, namespace), "Accepted")


async def test_a_changed_profile_is_taken_up_in_turn(
    kube: KubeClient, namespace: str, start_operator: StartOperator
) -> None:
    """Of four models with the profile two at a time follow a change of it, told by a watch; one whose manifest says
    what was changed does not notice, and no pod goes before its successor is ready."""
    names = [f"m{number}" for number in range(4)]
    own = simulated("own", namespace, profile="small", resources={"nodeSelector": {"tier": "mine"}})
    async with Kubelet(kube, namespace) as kubelet:
        await kube.apply(profiles(namespace, "nodeSelector: {tier: one}"), manager="platform")
        for manifest in (*(simulated(name, namespace, profile="small") for name in names), own):
            await kube.apply(manifest, manager="user")
        start_operator()

        async def settled(*reasons: str) -> bool:
            return set(await progress()) <= set(reasons)

        async def progress() -> list[str]:
            found = [await find(kube, LLM_MODELS, name, namespace) for name in (*names, "own")]
            return [str(condition(item, "Progressing").get("reason")) for item in found]

        async def selectors() -> dict[str, str]:
            found = (await kube.list(DEPLOYMENTS, namespace=namespace)).items
            return {one["metadata"]["name"]: one["spec"]["template"]["spec"]["nodeSelector"]["tier"] for one in found}

        await eventually(lambda: settled("Complete"), what="the models", seconds=SEEN)
        assert await selectors() == {**{f"{name}-model": "one" for name in names}, "own-model": "mine"}
        old = await kubelet.hashes()
        kubelet.accepts = lambda pod: pod["metadata"]["labels"][POD_HASH_LABEL] in old
        async with looking(kube, namespace, ready=len(names) + 1) as seen:
            await kube.apply(profiles(namespace, "nodeSelector: {tier: two}"), manager="platform")

            def begun() -> set[str]:
                return {name for name, template in seen.templates.items() if template not in old}

            await eventually(lambda: len(begun()) == 2, what="two models on their way", seconds=SEEN)

            async def others_wait() -> bool:
                return sorted(await progress()) == ["Complete", *["RollingOut"] * 2, *["UpdatePending"] * 2]

            await eventually(others_wait, what="two models to wait for their turn", seconds=SEEN)
            assert len(begun()) == 2
            kubelet.accepts = lambda _: True
            await eventually(lambda: settled("Complete"), what="everybody's turn", seconds=SEEN)
            assert begun() == {f"{name}-model" for name in names}
            assert seen.most_rolling <= 2
            assert seen.fewest_ready >= len(names) + 1
        assert await selectors() == {**{f"{name}-model": "two" for name in names}, "own-model": "mine"}
        live = await kube.get(DEPLOYMENTS, "m0-model", namespace=namespace)
        assert live["metadata"]["annotations"][CAUSE_ANNOTATION] == "Profile"


async def test_what_serves_outlives_its_profile(
    kube: KubeClient, namespace: str, start_operator: StartOperator
) -> None:
    """A model whose profile is faulty, or gone, keeps its pods and its place in the gateway's config, also under an
    operator that begins anew, and says what is wrong; a new one is refused until the profile comes."""
    good = "nodeSelector: {tier: one}"
    await kube.apply(profiles(namespace, good), manager="platform")
    await kube.apply(simulated("one", namespace, profile="small"), manager="user")
    operator = start_operator()

    async def is_accepted(name: str, *words: str) -> bool:
        told = await accepted(kube, name, namespace)
        if words:
            return (told.get("status"), told.get("reason")) == ("False", "Invalid") and all(
                word in told["message"] for word in words
            )
        return told.get("status") == "True"

    async def state() -> tuple[str, list[str]]:
        live = await kube.get(DEPLOYMENTS, workload_name("one"), namespace=namespace)
        config = await read_config(kube, namespace)
        return template_hash(live), [entry.id for entry in config.models] if config else []

    async def is_made() -> bool:
        return await find(kube, DEPLOYMENTS, workload_name("one"), namespace) is not None

    await eventually(lambda: is_accepted("one"), what="the model", seconds=SEEN)
    await eventually(is_made, what="its Deployment", seconds=SEEN)
    before = await state()
    assert before[1] == [f"{namespace}/one"]

    await kube.apply(profiles(namespace, "nodeSelector: 5"), manager="platform")
    faulty = ("'small'", "'profiles'", "`nodeSelector` must be an object")
    await eventually(lambda: is_accepted("one", *faulty), what="a word about the faulty profile", seconds=SEEN)
    assert await state() == before
    await kube.delete(CONFIG_MAPS, "profiles", namespace=namespace)
    gone = ("'small'", "there are no profiles")
    await eventually(lambda: is_accepted("one", *gone), what="a word about the missing profile", seconds=SEEN)
    assert operator.stop() == 0
    start_operator()
    await kube.apply(simulated("new", namespace, profile="small"), manager="user")
    await eventually(lambda: is_accepted("new", *gone), what="a word about the new model", seconds=SEEN)
    await eventually(lambda: is_accepted("one", *gone), what="the old one as it was", seconds=SEEN)
    assert await state() == before
    assert await find(kube, DEPLOYMENTS, workload_name("new"), namespace) is None

    await kube.apply(profiles(namespace, good), manager="platform")
    for name in ("one", "new"):
        await eventually(lambda name=name: is_accepted(name), what=f"{name} with its profile", seconds=SEEN)  # type: ignore[misc]
    assert (await state())[0] == before[0]
