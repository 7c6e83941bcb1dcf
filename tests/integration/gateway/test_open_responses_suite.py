"""The compliance suite of Open Responses before a whole gateway: its schemas everywhere, its own program on request.

    CAPSTAN_OPENRESPONSES=PATH-OF-A-CHECKOUT make test ARGS=tests/integration/gateway/test_open_responses_suite.py

runs the program, unchanged, once `bun install` has run in the checkout.
"""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fakes.openai_upstream import FakeUpstream
from support import clients
from support.dialects import frames
from support.gateway import entry, running_gateway
from support.openresponses_scenarios import SCENARIOS, respond
from support.openresponses_suite import (
    CHECKOUT,
    LEFT_OUT,
    PASSES,
    PROGRAM,
    checkout,
    expected,
    faults_in_zod,
    read_verdicts,
    verdicts,
)
from support.redis_server import redis_server

Document = dict[str, Any]


async def test_its_schemas_take_every_scenario(tmp_path: Path) -> None:
    """What a gateway answers to each scenario, whole and streamed, is what the suite would let pass."""
    bodies: list[Document] = []
    events: list[Document] = []
    async with (
        FakeUpstream(respond) as engine,
        running_gateway(tmp_path, entry("m", engine.url)) as gateway,
        aiohttp.ClientSession() as client,
    ):
        for scenario in SCENARIOS.values():
            request = {"model": "m", **scenario}
            for stream in (False, True):
                response = await client.post(f"{gateway.url}/v1/responses", json={**request, "stream": stream})
                body = await response.read()
                assert response.status == 200, body
                if stream:
                    events += [event for _, event in frames(body)]
                else:
                    bodies.append(json.loads(body))
    bodies += [event["response"] for event in events if event["type"] == "response.completed"]
    assert len(bodies) == 2 * len(SCENARIOS)
    assert faults_in_zod(tmp_path / "zod", bodies, events) == []


@pytest.mark.redis
async def test_the_suite_itself(tmp_path: Path) -> None:
    """Each test of the suite ends as docs/gateway.md says; one that it does not know wants to be looked at."""
    folder = checkout()
    with redis_server(tmp_path) as server:
        async with (
            FakeUpstream(respond) as engine,
            running_gateway(tmp_path, entry("m", engine.url), redis_url=server.url, redis_seconds=10.0) as gateway,
        ):
            found = await verdicts(folder, gateway.url, "m")
    assert "basic-response" in found
    assert {test: (expected(test), *ended) for test, ended in found.items() if ended[0] != expected(test)} == {}


async def test_the_program_is_run_as_its_readme_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It gets the address, a key, the model and `--json`, in its own folder; what it prints is read."""
    program = tmp_path / PROGRAM
    program.parent.mkdir()
    program.write_text(
        "console.log(JSON.stringify({summary: {}, results: [\n"
        "  {id: 'basic-response', status: 'failed', errors: [...process.argv.slice(2), process.cwd()]}]}));\n"
        "process.exit(1);\n"
    )
    monkeypatch.setenv(CHECKOUT, str(tmp_path))
    flags = ["--base-url", "http://127.0.0.1:9/v1", "--api-key", "unused", "--model", "m", "--json"]
    assert await verdicts(checkout(), "http://127.0.0.1:9", "m") == {
        "basic-response": ("failed", [*flags, str(tmp_path)])
    }


def test_it_is_left_out_without_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In CI as well, since no package ships it; a folder that is no checkout is a mistake."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.delenv(CHECKOUT, raising=False)
    with pytest.raises(pytest.skip.Exception, match="openresponses/openresponses"):
        checkout()
    monkeypatch.setenv(CHECKOUT, str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match=r"there is no bin/compliance-test\.ts"):
        checkout()


def test_what_judges_is_missed_in_ci(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only where people test may the packages lack, and then the test says so."""
    (tmp_path / "package.json").write_text('{"dependencies": {"bun": "1.0.0"}}')
    monkeypatch.setattr(clients, "OPEN_RESPONSES", tmp_path)
    for ci, outcome in (("", pytest.skip.Exception), ("true", pytest.fail.Exception)):
        monkeypatch.setenv("CI", ci)
        with pytest.raises(outcome, match=r"bun 1\.0\.0 \(scripts/clients\.sh\)"):
            clients.bun()


def test_results_that_are_none() -> None:
    """What is no list of results is shown, with what the program said of its failure."""
    with pytest.raises(AssertionError, match="Cannot find module"):
        read_verdicts("", "Cannot find module zod")


def test_each_test_has_one_scenario() -> None:
    """No test of the suite stands in two rows; what becomes of it is what its row says."""
    tests = [test for rows in (PASSES, LEFT_OUT) for tests in rows.values() for test in tests]
    assert len(tests) == len(set(tests))
    assert [expected(test) for test in ("multi-turn", "compact-response", "file-search", "new")] == [
        "passed", "failed", "skipped", None,
    ]  # fmt: skip
