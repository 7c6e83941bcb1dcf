"""A price table on a real API server: written by `capstan prices import`, in the config of gateways a moment later."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.config import Price
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.cli.main import main
from capstan_operator.desired.prices import PRICES_NAME
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import CONFIG_MAPS
from integration.loop.conftest import StartOperator
from support.llmmodels import hosted, read_config
from support.operator_process import find
from support.wait import eventually

pytestmark = pytest.mark.apiserver
ENTRY = {"litellm_provider": "openai", "mode": "chat", "output_cost_per_token": 2e-6}


async def import_table(kube_api: Path, namespace: str, folder: Path, dollars: float) -> None:
    """Import a table in which one model has this price per token."""
    file = folder / "table.json"
    file.write_text(json.dumps({"gpt": {**ENTRY, "input_cost_per_token": dollars}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kube_api))
        assert await asyncio.to_thread(main, ["prices", "import", str(file), "-n", namespace]) == 0


async def test_a_table_comes_changes_and_goes(
    kube: KubeClient, namespace: str, start_operator: StartOperator, kube_api: Path, tmp_path: Path
) -> None:
    """The model has no price, the table's, that of the next table, and none again; its status says which."""
    start_operator()
    await kube.apply(hosted("chat", namespace, model="gpt", url="https://api.openai.com/v1"), manager="test")

    async def is_said(source: str, price: Price | None) -> bool:
        found: dict[str, Any] = await find(kube, LLM_MODELS, "chat", namespace) or {}
        config = await read_config(kube, namespace)
        prices = [entry.price for entry in config.models] if config else []
        return found.get("status", {}).get("priceSource") == source and prices == [price]

    await eventually(lambda: is_said("Unknown", None), what="a model without a price")
    for dollars in (1e-6, 3e-6):
        await import_table(kube_api, namespace, tmp_path, dollars)
        price = Price(inputPerMillion=dollars * 1e6, outputPerMillion=2)
        await eventually(lambda price=price: is_said("Table openai/gpt", price), what="the price of the table")
    await kube.delete(CONFIG_MAPS, PRICES_NAME, namespace=namespace)
    await eventually(lambda: is_said("Unknown", None), what="a model without a price again")
