"""GuardPolicies from manifest to status, by the operator as a process against a real API server."""

from typing import Any

import pytest

from capstan_operator.api.kinds import GUARD_POLICIES, LLM_MODELS, RATE_LIMIT_POLICIES
from capstan_operator.kube.client import KubeClient
from support.llmmodels import condition, hosted
from support.operator_process import find
from support.policy_world import PolicyWorld
from support.wait import eventually

pytestmark = pytest.mark.apiserver


def guards(name: str, namespace: str, *models: str, pattern: str = "a+", **spec: Any) -> dict[str, Any]:
    """A policy for these models."""
    targets = {"targetRefs": [{"name": model} for model in models]} if models else {}
    regex = {"type": "Regex", "patterns": [{"name": "one", "pattern": pattern}]}
    return {
        "apiVersion": GUARD_POLICIES.api_version,
        "kind": "GuardPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"input": [regex], **targets, **spec},
    }


class World(PolicyWorld):
    """What a test looks at."""

    resource = GUARD_POLICIES

    async def patterns(self) -> dict[str, str]:
        """What the guards of each policy in the config look for."""
        policies = (await self.config()).get("policies", ())
        return {
            one["id"].rpartition("/")[2]: one["body"]["input"][0]["patterns"][0]["pattern"]
            for one in policies
            if one["kind"] == "GuardPolicy"
        }


@pytest.fixture
def world(kube: KubeClient, namespace: str) -> World:
    """A namespace, and eyes and hands."""
    return World(kube, namespace)


async def test_a_broken_expression_keeps_the_last_good_one(world: World, start_operator: Any) -> None:
    """A policy with a broken expression says so with its place, what was accepted last stays in force, also for the
    next operator, and a good one follows; one that was never good is in force nowhere."""
    space = world.namespace
    operator = start_operator()
    await world.apply(hosted("a", space), guards("p", space, "a", pattern="good"))
    await world.until("p", "Programmed", "True", "Written")
    assert await world.patterns() == {"p": "good"}

    async def model_says() -> bool:
        model = await find(world.kube, LLM_MODELS, "a", space)
        return ((model or {}).get("status") or {}).get("policies") == [
            {"kind": "GuardPolicy", "namespace": space, "name": "p"}
        ]

    await eventually(model_says, what="the model to say which policy is in force on it")
    await world.apply(guards("p", space, "a", pattern="(broken"))
    found = await world.until("p", "Accepted", "False", "Invalid")
    message = condition(found, "Accepted")["message"]
    assert (
        "`spec.input[0].patterns[0].pattern` must be an expression that guards can use: RE2 does not take it ("
        in message
    )
    assert "broken" not in message
    assert await world.patterns() == {"p": "good"}
    operator.stop()
    start_operator()
    await world.apply(hosted("b", space), guards("never-good", space, "b", pattern="*"))
    await world.until("never-good", "Programmed", "False", "NotAccepted")
    await world.until_in_force("b")
    await world.until_in_force("a", "p")
    assert await world.patterns() == {"p": "good"}
    await world.apply(guards("p", space, "a", pattern="better"))
    await world.until("p", "Accepted", "True", "Accepted")
    assert await world.patterns() == {"p": "better"}


async def test_the_floor_stays(world: World, start_operator: Any) -> None:
    """A policy of the installation is in force beside what the namespace has, in each mode, and goes with itself alone;
    policies of other kinds are not in its way."""
    space = world.namespace
    start_operator()  # this namespace is where it is installed
    limits = {
        "apiVersion": RATE_LIMIT_POLICIES.api_version,
        "kind": "RateLimitPolicy",
        "metadata": {"name": "limits", "namespace": space},
        "spec": {"targetRefs": [{"name": "a"}], "limits": [{"name": "r", "per": "Tenant", "requests": 5}]},
    }
    await world.apply(hosted("a", space), guards("floor", space), limits)
    await world.until_in_force("a", "floor", "limits")
    await world.apply(guards("own", space, "a"), guards("trial", space, "a", mode="Shadow"))
    await world.until_in_force("a", "floor", "limits", "own", "trial")
    await world.apply(guards("weaker", space, mode="Shadow"))
    await world.until_in_force("a", "floor", "limits", "own", "trial", "weaker")
    for name in ("floor", "own", "trial", "weaker"):
        await world.until(name, "Accepted", "True", "Accepted")
    await world.apply(guards("another-floor", space))
    await world.until("another-floor", "Accepted", "False", "Conflicted")
    await world.kube.delete(GUARD_POLICIES, "own", namespace=space)
    await world.until_in_force("a", "floor", "limits", "trial", "weaker")
