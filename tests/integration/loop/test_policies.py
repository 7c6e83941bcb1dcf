"""RateLimitPolicies from manifest to status, by the operator as a process against a real API server."""

from typing import Any

import pytest

from capstan_contract.config import ConfigReport
from capstan_operator.api.kinds import LLM_MODELS, RATE_LIMIT_POLICIES
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import ENDPOINT_SLICES
from support.llmmodels import condition, hosted
from support.operator_process import find
from support.policy_world import PolicyWorld
from support.ports import free_port
from support.replicas import Replica, serve, slice_in
from support.wait import eventually

pytestmark = pytest.mark.apiserver


def policy(name: str, namespace: str, *models: str, requests: int = 5, **spec: Any) -> dict[str, Any]:
    """A policy for these models."""
    targets = {"targetRefs": [{"name": model} for model in models]} if models else {}
    limits = [{"name": "requests", "per": "Tenant", "requests": requests}]
    return {
        "apiVersion": RATE_LIMIT_POLICIES.api_version,
        "kind": "RateLimitPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"limits": limits, **targets, **spec},
    }


class World(PolicyWorld):
    """What a test looks at."""

    resource = RATE_LIMIT_POLICIES

    async def in_force(self) -> dict[str, list[str]]:
        """The names of the policies of each model in the config."""
        models = (await self.config())["models"]
        return {
            one["id"].partition("/")[2]: [id_.rpartition("/")[2] for id_ in one.get("policies", ())] for one in models
        }

    async def requests(self) -> dict[str, int]:
        """What each policy in the config allows."""
        policies = (await self.config()).get("policies", ())
        return {one["id"].rpartition("/")[2]: one["body"]["limits"][0]["amount"] for one in policies}

    async def until_in_force(self, **expected: list[str]) -> None:
        """Wait until the models have these policies."""

        async def check() -> bool:
            return await self.in_force() == expected

        await eventually(check, what=f"{expected} in the config")


@pytest.fixture
def world(kube: KubeClient, namespace: str) -> World:
    """A namespace, and eyes and hands."""
    return World(kube, namespace)


async def test_applied_changed_narrowed_deleted(world: World, start_operator: Any) -> None:
    """What a policy says is in the config with the models that it is for, its status says how many, and no more once it
    is gone."""
    space = world.namespace
    start_operator()
    await world.apply(hosted("a", space), hosted("b", space), policy("p", space, "a", "b"))
    await world.until_in_force(a=["p"], b=["p"])
    found = await world.until("p", "Programmed", "True", "Written")
    assert found["status"]["models"] == 2
    assert found["status"]["ancestors"][0]["ancestorRef"]["kind"] == "ConfigMap"

    async def model_says() -> bool:
        model = await find(world.kube, LLM_MODELS, "a", space)
        return ((model or {}).get("status") or {}).get("policies") == [
            {"kind": "RateLimitPolicy", "namespace": space, "name": "p"}
        ]

    await eventually(model_says, what="the model to say which policy is in force on it")

    await world.apply(policy("p", space, "b", requests=7))
    await world.until_in_force(a=[], b=["p"])
    assert await world.requests() == {"p": 7}
    found = await world.until("p", "Programmed", "True", "Written")
    assert found["status"]["models"] == 1

    await world.kube.delete(RATE_LIMIT_POLICIES, "p", namespace=space)
    await world.until_in_force(a=[], b=[])
    assert await world.requests() == {}


async def test_a_conflict_and_its_end(world: World, start_operator: Any) -> None:
    """The second policy of a model is told who is in force, and takes its place when that one goes."""
    space = world.namespace
    start_operator()
    await world.apply(hosted("a", space), policy("first", space, "a"))
    await world.until("first", "Accepted", "True", "Accepted")
    await world.apply(policy("another", space, "a"))
    loser = await world.until("another", "Accepted", "False", "Conflicted")
    assert f"'{space}/first' is in force" in condition(loser, "Accepted")["message"]
    assert loser["status"]["ancestors"][0]["losses"] == [
        {"namespace": space, "name": "a", "reason": "Conflicted", "winner": f"{space}/first"}
    ]
    await world.until("another", "Programmed", "False", "NotAccepted")
    await world.until_in_force(a=["first"])
    await world.kube.delete(RATE_LIMIT_POLICIES, "first", namespace=space)
    await world.until_in_force(a=["another"])
    await world.until("another", "Programmed", "True", "Written")


async def test_labels_decide_at_once(world: World, start_operator: Any) -> None:
    """A label changes no generation of a model, and it is limited all the same as soon as it has it."""
    space = world.namespace
    start_operator()
    await world.apply(hosted("a", space), policy("p", space, targetSelector={"matchLabels": {"tier": "gold"}}))
    await world.until("p", "Programmed", "True", "Written")
    await world.until_in_force(a=[])
    labelled = hosted("a", space)
    labelled["metadata"]["labels"] = {"tier": "gold"}
    await world.apply(labelled)
    await world.until_in_force(a=["p"])


async def test_a_faulty_edit_keeps_the_limits(world: World, start_operator: Any) -> None:
    """What only the operator can find wrong is told, and what was accepted last stays in force."""
    space = world.namespace
    start_operator()
    await world.apply(hosted("a", space), policy("p", space, "a"))
    await world.until("p", "Programmed", "True", "Written")
    budget = {"name": "b", "per": "Team", "dollars": "1", "period": "day", "resetTimeZone": "Europe/Atlantis"}
    await world.apply(policy("p", space, "a", requests=9, budgets=[budget]))
    found = await world.until("p", "Accepted", "False", "Invalid")
    assert "resetTimeZone" in condition(found, "Accepted")["message"]
    assert await world.in_force() == {"a": ["p"]}
    assert await world.requests() == {"p": 5}


async def test_programmed_is_what_the_gateway_runs(world: World, start_operator: Any) -> None:
    """Programmed is true when every ready gateway replica runs a config with this generation, and says so of a change
    only once that one is run; a gateway that refuses the kind is named."""
    space = world.namespace
    port, replica = free_port(), Replica()

    async def load() -> None:
        replica.report = ConfigReport(hash=(await world.config())["hash"])

    async with serve(replica, port):
        await world.apply(hosted("a", space), slice_in(space), policy("p", space, "a"))
        start_operator(CAPSTAN_GATEWAY_SERVICE="gw", CAPSTAN_GATEWAY_ADMIN_PORT=str(port))
        await world.until_in_force(a=["p"])
        await world.until("p", "Accepted", "True", "Accepted")
        await load()
        found = await world.until("p", "Programmed", "True", "Programmed")
        assert found["status"]["ancestors"][0]["ancestorRef"]["name"] == "gw"
        await world.apply(policy("p", space, "a", requests=6))
        await world.until("p", "Programmed", "False", "GatewayPending")
        id_ = f"RateLimitPolicy/{space}/p"
        replica.report = ConfigReport(
            hash=(await world.config())["hash"],
            refused={id_: ("kind/RateLimitPolicy",), f"{space}/a": (f"policy/{id_}",)},
        )
        await world.until("p", "Programmed", "False", "GatewayRefused")
        await load()
        # At rest a gateway is asked every half minute, and at once when it has begun anew, as this one has.
        await world.apply(slice_in(space, touched="again"))
        await world.until("p", "Programmed", "True", "Programmed")
        await world.kube.delete(ENDPOINT_SLICES, "gw-1", namespace=space)
