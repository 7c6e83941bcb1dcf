"""Who answered a request, as its log line says."""

import json
from pathlib import Path

import aiohttp
import pytest

from fakes.openai_upstream import FakeUpstream, Received, Wire, answer
from support.gateway import entry, running_gateway


async def test_nobody_answered(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A line names who answered in another model's place, and nobody when no model gave an answer."""

    async def some(received: Received, wire: Wire) -> None:
        if received.document["model"] == "good":
            await answer(received, wire)
        else:
            await wire.json({"error": {"message": "no"}}, 500)

    async with FakeUpstream(some) as upstream:
        models = (
            entry("lost", upstream.url, fallbacks=("bad",)), entry("saved", upstream.url, fallbacks=("good",)),
            entry("bad", upstream.url), entry("good", upstream.url),
        )  # fmt: skip
        async with (
            running_gateway(tmp_path, *models, log_level="info", log_format="json") as gateway,
            aiohttp.ClientSession(gateway.url) as http,
        ):
            for name in ("lost", "saved", "good"):
                body = {"model": name, "messages": [{"role": "user", "content": "x"}]}
                async with http.post("/v1/chat/completions", json=body) as response:
                    await response.read()
            await gateway.settled()
            gateway.gateway.deps.request_log.flush()
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"served request"' in line]
    assert [(line["model"], line["status"], line.get("answered_by")) for line in lines] == [
        ("lost", 502, None), ("saved", 200, "good"), ("good", 200, None),
    ]  # fmt: skip
