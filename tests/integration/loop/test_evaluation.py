"""An operator beside a scorer, on a real API server: a condition and Events that come and go, a key that is made."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from capstan_contract.evaluation import SCORES_PATH, ScoreReport, TrackScores
from capstan_contract.names import API_KEY_FIELD, API_KEY_LABEL
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import EVENTS, SECRETS
from integration.loop.conftest import StartOperator
from support.llmmodels import condition, hosted, read_config
from support.operator_process import find
from support.ports import free_port
from support.wait import eventually

pytestmark = pytest.mark.apiserver
EVALUATION = {
    "sampleRate": "0.1", "criteria": [{"name": "polite", "text": "It is polite."}], "judge": {"name": "judge"},
    "alertBelow": "0.8",
}  # fmt: skip


@asynccontextmanager
async def scorer(said: dict[str, tuple[TrackScores, ...]]) -> AsyncIterator[str]:
    """Serve what is said now."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=ScoreReport(models=said).model_dump_json())

    application = web.Application()
    application.router.add_get(SCORES_PATH, answer)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def test_answers_that_are_worse_than_they_may_be_are_told(
    kube: KubeClient, namespace: str, start_operator: StartOperator
) -> None:
    """On the model and by an Event, as long as they are; the gateway is told how answers are judged, and the scorer has
    an API key that gateways know."""
    bad = TrackScores(criterion="polite", rubric="1", count=100, mean=0.6, low=0.5, high=0.7, newest=1.0)
    model_id = f"{namespace}/chat"
    said: dict[str, tuple[TrackScores, ...]] = {model_id: (bad,)}
    async with scorer(said) as url:
        start_operator(CAPSTAN_SCORER_URL=url, CAPSTAN_SCORER_KEY="capstan-scorer-key", CAPSTAN_SCORER_JUDGES="judge")
        for name in ("chat", "quiet"):
            manifest = hosted(name, namespace, model="gpt", url="https://api.openai.com/v1")
            manifest["spec"]["evaluation"] = EVALUATION
            await kube.apply(manifest, manager="test")
        await kube.apply(hosted("judge", namespace, model="gpt", url="https://api.openai.com/v1"), manager="test")

        async def says(status: str, reason: str, *, name: str = "chat") -> bool:
            found: dict[str, Any] = condition(await find(kube, LLM_MODELS, name, namespace), "EvaluationHealthy")
            return (found.get("status"), found.get("reason")) == (status, reason)

        async def told() -> list[str]:
            events = (await kube.list(EVENTS, namespace=namespace)).items
            reasons = [event["reason"] for event in events if event.get("regarding", {}).get("name") == "chat"]
            return sorted(reason for reason in reasons if reason.startswith("Score"))

        await eventually(
            lambda: says("Unknown", "TooFewScores", name="quiet"), what="a model without scores", seconds=90
        )
        await eventually(lambda: says("False", "ScoreBelowThreshold"), what="bad answers", seconds=90)
        await eventually(lambda: _is(told, ["ScoreBelowThreshold"]), what="an Event", seconds=90)
        said[model_id] = (bad.model_copy(update={"mean": 0.9, "low": 0.85, "high": 0.95, "newest": 2.0}),)
        await eventually(lambda: says("True", "AsExpected"), what="good answers", seconds=90)
        await eventually(lambda: _is(told, ["ScoreBelowThreshold", "ScoreRecovered"]), what="news", seconds=90)

        async def is_known() -> bool:
            now = await read_config(kube, namespace)
            return [(key.tenant, key.models) for key in (now.keys if now else ())] == [("capstan-scorer", ("judge",))]

        async def judge() -> str | None:
            now = await read_config(kube, namespace)
            found = [one.evaluation for one in (now.models if now else ()) if one.id == model_id]
            return found[0].judge if found and found[0] else None

        await eventually(is_known, what="the key in the config", seconds=90)
        assert await eventually(judge, what="how answers are judged", seconds=90) == f"{namespace}/judge"
        secret = await find(kube, SECRETS, "capstan-scorer-key", namespace)
        assert secret is not None
        assert secret["metadata"]["labels"][API_KEY_LABEL] == "true"
        assert base64.b64decode(secret["data"][API_KEY_FIELD]).startswith(b"sk-capstan-")


async def _is(given: Any, wanted: list[str]) -> bool:
    return bool(await given() == wanted)
