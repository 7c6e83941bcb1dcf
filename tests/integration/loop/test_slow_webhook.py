"""Admission webhooks that hang: they hold up the models of their namespaces, and nobody else's."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from support.api_proxy import api_proxy
from support.llmmodels import is_settled, simulated
from support.operator_process import NAMESPACES, find, make_namespace
from support.wait import eventually

pytestmark = pytest.mark.apiserver

STUCK = 5
"""Namespaces: more than there are shares."""
MODELS = 40
"""In each of them."""


async def test_namespaces_whose_writes_hang_hold_up_nobody_else(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any, tmp_path: Path
) -> None:
    """Two hundred models of five namespaces hang for good; models elsewhere, old and new, settle all the same."""
    stuck = [await make_namespace(kube) for _ in range(STUCK)]
    async with api_proxy(kube_api, tmp_path) as (proxy, through_proxy):
        proxy.stuck = set(stuck)
        for name in stuck:
            await asyncio.gather(
                *(kube.apply(simulated(f"m{number}", name), manager="user") for number in range(MODELS))
            )
        operator = start_operator(kubeconfig=through_proxy, CAPSTAN_WATCH_NAMESPACES=",".join([namespace, *stuck]))

        async def settled(name: str) -> bool:
            return is_settled(await find(kube, LLM_MODELS, name, namespace))

        await eventually(lambda: operator.metric("capstan_operator_slow_namespaces") == STUCK, what="all to hang")
        assert proxy.hanging >= STUCK
        for number in range(3):
            await kube.apply(simulated(f"well{number}", namespace), manager="user")
            await eventually(lambda number=number: settled(f"well{number}"), what=f"model {number}")
        await kube.apply(simulated("well0", namespace, replicas=2), manager="user")
        await eventually(lambda: settled("well0"), what="the changed model")
        assert proxy.hanging >= STUCK
        assert operator.read("/healthz").startswith("ok")
        assert operator.exit_code is None

        proxy.stuck.discard(stuck[0])

        async def recovered() -> bool:
            return is_settled(await find(kube, LLM_MODELS, f"m{MODELS - 1}", stuck[0]))

        await eventually(recovered, seconds=150, what="the namespace whose webhook answers again")
    for name in stuck:
        await kube.delete(NAMESPACES, name)
