"""The watch is a hint: what happens while it is down is found all the same."""

from pathlib import Path
from typing import Any

import pytest

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import DEPLOYMENTS, SERVICES
from support.api_proxy import api_proxy
from support.llmmodels import is_settled, served_names, simulated
from support.operator_process import find
from support.wait import eventually

pytestmark = pytest.mark.apiserver


@pytest.mark.parametrize("expired", [True, False], ids=["410", "resumed"])
async def test_changes_during_an_outage_of_the_watch(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any, tmp_path: Path, expired: bool
) -> None:
    """A model deleted, one made, and a child deleted while no watch works: all right once it works again, whether
    the watch goes on where it was or its resourceVersion has expired."""
    async with api_proxy(kube_api, tmp_path) as (proxy, through_proxy):
        operator = start_operator(kubeconfig=through_proxy)

        async def settled(name: str) -> bool:
            return is_settled(await find(kube, LLM_MODELS, name, namespace))

        for name in ("stays", "goes"):
            await kube.apply(simulated(name, namespace), manager="user")
        await eventually(lambda: settled("stays"), what="the first model")
        await eventually(lambda: settled("goes"), what="the second model")

        proxy.break_watches()
        await kube.delete(LLM_MODELS, "goes", namespace=namespace)
        await kube.apply(simulated("comes", namespace), manager="user")
        await kube.delete(SERVICES, "stays-model", namespace=namespace)
        proxy.mend_watches(expired=expired)

        async def is_right() -> bool:
            names = await served_names(kube, namespace)
            service = await find(kube, SERVICES, "stays-model", namespace)
            return names == {"stays", "comes"} and service is not None and await settled("comes")

        await eventually(is_right, what="the world to be right again")
        assert operator.exit_code is None
        if expired:
            path = LLM_MODELS.path(namespace)
            await eventually(lambda: path in proxy.expired, what="the 410")
        assert await find(kube, DEPLOYMENTS, "comes-model", namespace)
