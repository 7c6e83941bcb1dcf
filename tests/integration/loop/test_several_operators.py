"""Several operators on one API server: replicas of one install, and installs of different classes."""

from pathlib import Path
from typing import Any

import pytest

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import DEPLOYMENTS, SERVICES
from support.llmmodels import is_settled, served_names, simulated
from support.operator_process import NAMESPACES, OperatorProcess, find, make_namespace
from support.wait import eventually

pytestmark = pytest.mark.apiserver

LEADER = "capstan_operator_leader"


async def settled(kube: KubeClient, name: str, namespace: str) -> bool:
    """Whether a model has settled."""
    return is_settled(await find(kube, LLM_MODELS, name, namespace))


async def test_a_leader_that_is_killed_is_followed(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """Of two replicas both are healthy and ready, and one works; when it is killed, the other one works on."""
    first, second = start_operator(), start_operator()
    await eventually(lambda: first.metric(LEADER) + second.metric(LEADER) == 1, what="one to lead")
    leads, waits = (first, second) if first.metric(LEADER) else (second, first)
    await kube.apply(simulated("one", namespace), manager="user")
    await eventually(lambda: settled(kube, "one", namespace), what="the model to settle")
    await eventually(waits.is_ready, what="the other one")
    assert leads.is_ready()
    assert leads.read("/healthz") == waits.read("/healthz") == "ok"
    assert waits.metric("capstan_operator_reconciles_total") == 0
    assert waits.metric("capstan_operator_watch_events_total") == 0
    leads.kill()
    await kube.apply(simulated("two", namespace), manager="user")
    await eventually(lambda: settled(kube, "two", namespace), seconds=120, what="a model of the one that followed")
    assert waits.metric(LEADER) == 1
    assert waits.exit_code is None


async def test_installs_of_two_classes_leave_each_others_models_alone(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any, tmp_path: Path
) -> None:
    """Both watch all the namespaces. Each serves the models of its class and writes to no other one; a model that
    changes its class goes over with the objects that it has, which nobody deletes meanwhile."""
    elsewhere = await make_namespace(kube)
    both = f"{namespace},{elsewhere}"
    plain = start_operator(CAPSTAN_WATCH_NAMESPACES=both)
    blue = OperatorProcess(
        kube_api, elsewhere, tmp_path / "blue.log", CAPSTAN_WATCH_NAMESPACES=both, CAPSTAN_CLASS_NAME="blue"
    ).start()
    try:
        await kube.apply(simulated("mine", namespace), manager="user")
        await kube.apply(simulated("theirs", namespace, className="blue"), manager="user")
        await kube.apply(simulated("nobodys", namespace, className="green"), manager="user")
        await eventually(lambda: settled(kube, "mine", namespace), what="the model without a class")
        await eventually(lambda: settled(kube, "theirs", namespace), what="the blue model")
        assert await served_names(kube, namespace) == {"mine"}
        assert await served_names(kube, elsewhere) == {"theirs"}
        alone = await find(kube, LLM_MODELS, "nobodys", namespace)
        assert alone is not None
        assert "status" not in alone
        assert await find(kube, DEPLOYMENTS, "nobodys-model", namespace) is None

        before = await find(kube, DEPLOYMENTS, "mine-model", namespace)
        service = await find(kube, SERVICES, "mine-model", namespace)
        assert before is not None
        assert service is not None
        await kube.apply(simulated("mine", namespace, className="blue"), manager="user")
        await eventually(lambda: settled(kube, "mine", namespace), what="the model that changed its class")

        async def gone_over() -> bool:
            return await served_names(kube, namespace) == set() and await served_names(kube, elsewhere) == {
                "mine",
                "theirs",
            }

        await eventually(gone_over, what="the model to be served by the other install")
        after = await find(kube, DEPLOYMENTS, "mine-model", namespace)
        assert after is not None
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert after["spec"] == before["spec"]
        assert plain.exit_code is None
        assert blue.exit_code is None
    finally:
        blue.kill()
        await kube.delete(NAMESPACES, elsewhere)


async def test_installs_of_two_classes_may_have_one_namespace(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any, tmp_path: Path
) -> None:
    """Two releases in one namespace, as on the way to another release name: each leads, serves the models of its class
    and writes a config of its own."""
    plain = start_operator()
    names = {"CAPSTAN_GATEWAY_CONFIG": "blue-gateway-config", "CAPSTAN_GATEWAY_CREDENTIALS": "blue-gateway-credentials"}
    blue = OperatorProcess(kube_api, namespace, tmp_path / "blue.log", CAPSTAN_CLASS_NAME="blue", **names).start()
    try:
        await kube.apply(simulated("mine", namespace), manager="user")
        await kube.apply(simulated("theirs", namespace, className="blue"), manager="user")
        await eventually(lambda: settled(kube, "mine", namespace), what="the model without a class")
        await eventually(lambda: settled(kube, "theirs", namespace), what="the blue model")
        assert (plain.metric(LEADER), blue.metric(LEADER)) == (1, 1)
        assert await served_names(kube, namespace) == {"mine"}
        assert (plain.exit_code, blue.exit_code) == (None, None)
    finally:
        blue.kill()
