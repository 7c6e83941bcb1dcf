"""Ready means that every ready gateway replica runs this generation."""

import asyncio
from typing import Any

import pytest

from capstan_contract.config import ConfigReport
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import EVENTS
from support.llmmodels import condition, hosted, read_config, simulated
from support.operator_process import ONE_POD, find
from support.ports import free_port
from support.replicas import Replica, serve, slice_in
from support.wait import eventually

pytestmark = pytest.mark.apiserver


async def test_ready_waits_for_the_gateway(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """A model is not Ready before the gateway runs its generation, is Ready within a second of it, and the next
    generation has to be acknowledged anew."""
    port, replica = free_port(), Replica()

    async def ready() -> tuple[str, str]:
        found = condition(await find(kube, LLM_MODELS, "api", namespace), "Ready")
        return found.get("status", ""), found.get("reason", "")

    async with serve(replica, port):
        start_operator(CAPSTAN_GATEWAY_SERVICE="gw", CAPSTAN_GATEWAY_ADMIN_PORT=str(port))
        await kube.apply(slice_in(namespace), manager="test")
        await kube.apply(hosted("api", namespace), manager="user")

        async def is_pending() -> bool:
            return replica.asked > 1 and (await ready())[0] == "False"

        await eventually(is_pending, what="the model to wait for the gateway")

        async def is_ready_with_the_newest() -> bool:
            config = await read_config(kube, namespace)
            assert config is not None
            replica.load(config)
            return (await ready())[0] == "True"

        await eventually(is_ready_with_the_newest, what="the model to be ready")

        await kube.apply(hosted("api", namespace, model="gpt-next"), manager="user")

        async def is_pending_again() -> bool:
            found = await find(kube, LLM_MODELS, "api", namespace)
            return (
                condition(found, "Ready")["status"] == "False" and condition(found, "Ready")["observedGeneration"] == 2
            )

        await eventually(is_pending_again, what="the new generation to wait for the gateway")
        await eventually(is_ready_with_the_newest, what="the new generation to be ready")


async def test_a_router_waits_for_the_gateway_to_run_a_member_that_came_later(
    kube: KubeClient, namespace: str, start_operator: Any
) -> None:
    """Its own generation is acknowledged already, in a config without the only member that answers."""
    port, replica = free_port(), Replica()
    router = {**simulated("front", namespace), "spec": {"router": {"members": [{"name": "idle"}, {"name": "api"}]}}}

    async def is_told(status: str, reason: str) -> bool:
        found = condition(await find(kube, LLM_MODELS, "front", namespace), "Ready")
        return (found.get("status"), found.get("reason")) == (status, reason)

    async with serve(replica, port):
        start_operator(CAPSTAN_GATEWAY_SERVICE="gw", CAPSTAN_GATEWAY_ADMIN_PORT=str(port))
        await kube.apply(slice_in(namespace), manager="test")
        for manifest in (router, simulated("idle", namespace)):
            await kube.apply(manifest, manager="user")

        async def waits_for_a_member() -> bool:
            config = await read_config(kube, namespace)
            if config is None or len(config.models) < 2:
                return False
            replica.load(config)
            return await is_told("False", "NoMemberAvailable")

        await eventually(waits_for_a_member, what="the router to want a member that answers")
        await kube.apply(hosted("api", namespace), manager="user")

        async def waits_for_the_gateway() -> bool:
            assert not await is_told("True", "Serving")
            return await is_told("False", "GatewayPending")

        await eventually(waits_for_the_gateway, what="the router to wait for the gateway")

        async def is_serving() -> bool:
            config = await read_config(kube, namespace)
            assert config is not None
            replica.load(config)
            return await is_told("True", "Serving")

        await eventually(is_serving, what="the router to be ready")


async def test_a_replica_that_does_not_answer_for_a_moment_changes_nothing(
    kube: KubeClient, namespace: str, start_operator: Any
) -> None:
    """One of two replicas is silent, and the list of them is looked at anew: no status is written, and no Event."""
    port, replica, names = free_port(), Replica(), [f"api-{number}" for number in range(10)]

    async def state() -> list[tuple[str, str, str]]:
        models = (await kube.list(LLM_MODELS, namespace=namespace)).items
        return [
            (item["metadata"]["name"], item["metadata"]["resourceVersion"], condition(item, "Ready").get("status", ""))
            for item in models
        ]

    async with serve(replica, port):
        start_operator(CAPSTAN_GATEWAY_SERVICE="gw", CAPSTAN_GATEWAY_ADMIN_PORT=str(port))
        await kube.apply(slice_in(namespace, "pod-1", "pod-2"), manager="test")
        for name in names:
            await kube.apply(hosted(name, namespace), manager="user")

        async def all_are_ready() -> bool:
            config = await read_config(kube, namespace)
            if config is None or len(config.models) < len(names):
                return False
            replica.load(config)
            return all(ready == "True" for _, _, ready in await state())

        await eventually(all_are_ready, what="the models to be ready")

        async def events() -> list[tuple[str, str]]:
            found = (await kube.list(EVENTS, namespace=namespace)).items
            return sorted((item["regarding"]["name"], item["reason"]) for item in found)

        async def all_is_told() -> bool:
            # Events are written after the status, one after the other.
            return {name for name, reason in await events() if reason == "Serving"} == set(names)

        await eventually(all_is_told, what="the Events of becoming ready")
        told = await events()
        before, replica.silent = await state(), True
        for number in range(3):
            asked = replica.asked
            await kube.apply(slice_in(namespace, "pod-1", "pod-2", touched=str(number)), manager="test")
            await eventually(lambda: replica.asked >= asked + 2, what="the replicas to be asked again")  # noqa: B023

        # What would follow from the last silence follows within a deadline of a question and a turn of the queue.
        replica.silent = False
        asked = replica.asked
        await asyncio.sleep(2.5)
        await kube.apply(slice_in(namespace, "pod-1", "pod-2", touched="in the end"), manager="test")
        await eventually(lambda: replica.asked >= asked + 2, what="the replicas to be asked once more")
        assert replica.silences >= 3
        assert await state() == before
        assert await events() == told


async def test_a_restarted_operator_takes_ready_from_nobody(
    kube: KubeClient, namespace: str, start_operator: Any
) -> None:
    """It is asked about a config that it did not write: models that were Ready stay so, and a new generation waits."""
    port, replica = free_port(), Replica()
    environ = {"CAPSTAN_GATEWAY_SERVICE": "gw", "CAPSTAN_GATEWAY_ADMIN_PORT": str(port), **ONE_POD}

    async def ready(name: str) -> tuple[str, str, int]:
        found = condition(await find(kube, LLM_MODELS, name, namespace), "Ready")
        return found.get("status", ""), found.get("reason", ""), found.get("observedGeneration", 0)

    async with serve(replica, port):
        first = start_operator(**environ)
        await kube.apply(slice_in(namespace, "pod-1"), manager="test")
        for name in ("stays", "changes"):
            await kube.apply(hosted(name, namespace), manager="user")

        async def both_are_ready() -> bool:
            if (config := await read_config(kube, namespace)) is not None:
                replica.load(config)
            return {(await ready(name))[0] for name in ("stays", "changes")} == {"True"}

        await eventually(both_are_ready, what="the models to be ready")
        first.kill()
        replica.report = ConfigReport(hash="of a config that nobody here has compiled")
        await kube.apply(hosted("changes", namespace, model="gpt-next"), manager="user")
        stays = (await find(kube, LLM_MODELS, "stays", namespace) or {})["metadata"]["resourceVersion"]
        start_operator(**environ)

        async def the_new_generation_waits() -> bool:
            return await ready("changes") == ("Unknown", "GatewayUnknown", 2)

        await eventually(the_new_generation_waits, what="the new generation to wait", seconds=120)
        assert await ready("stays") == ("True", "Serving", 1)
        assert (await find(kube, LLM_MODELS, "stays", namespace) or {})["metadata"]["resourceVersion"] == stays
        await eventually(both_are_ready, what="the new generation to be ready")
