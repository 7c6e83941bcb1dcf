"""What was used, from a request to `capstan usage`: counted for who asked, told to the admin alone."""

import asyncio
import csv
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_contract.config import Price
from capstan_gateway.telemetry.usage_counts import today
from capstan_operator.cli.main import main
from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text

ADMIN = "an-admin-key-of-more-than-sixteen-bytes"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with keys of two teams, a model with a price and one without."""
    file = tmp_path / "admin"
    file.write_text(ADMIN)
    models = (
        entry("priced", upstream.url, price=Price(inputPerMillion=1, outputPerMillion=2)),
        entry("own", upstream.url),
    )
    keys = [key_entry("ann", user="ann", team="red"), key_entry("bob", user="bob", team="blue")]
    async with running_gateway(tmp_path, *models, keys=keys, insecure_no_auth=False, admin_key_file=file) as running:
        yield running


async def ask(http: aiohttp.ClientSession, who: str, model: str, **fields: Any) -> None:
    """Ask a model, and read the answer to its end."""
    headers = {"authorization": f"Bearer {key_text(who)}"}
    async with http.post("/v1/chat/completions", json={**BODY, "model": model, **fields}, headers=headers) as answer:
        assert answer.status == 200
        await answer.read()


async def cli(*words: str) -> int:
    """Run the command line beside the loop."""
    return await asyncio.to_thread(main, ["usage", *words])


async def test_usage_is_told_by_tenant_team_user_and_model(
    gateway: RunningGateway, http: aiohttp.ClientSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Streams too, in the three forms, and summed up as asked for; money in whole nano-dollars."""
    await ask(http, "ann", "priced")
    await ask(http, "ann", "priced", stream=True)
    await ask(http, "bob", "own")
    await gateway.settled()
    file = tmp_path / "key"
    file.write_text(f"{ADMIN}\n")
    where = ("--url", gateway.url, "--key-file", str(file))
    assert await cli(*where, "--by", "team,model", "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["source"], told["from"], told["to"]) == ("memory", today(), today())
    by_team = {(row["team"], row["model"]): row for row in told["rows"]}
    red = by_team["red", "priced"]
    assert (red["requests"], red["unpriced_requests"]) == (2, 0)
    assert red["nano_dollars"] == 1000 * red["input_tokens"] + 2000 * red["output_tokens"] > 0
    blue = by_team["blue", "own"]
    assert (blue["requests"], blue["nano_dollars"], blue["unpriced_requests"]) == (1, 0, 1)
    assert await cli(*where, "--by", "day,user", "--user", "ann", "-o", "csv") == 0
    head, line = csv.reader(capsys.readouterr().out.splitlines())
    assert head == [
        "day", "user", "requests", "input_tokens", "cached_tokens", "output_tokens", "dollars", "unpriced_requests",
    ]  # fmt: skip
    assert line[:3] == [today(), "ann", "2"]
    assert await cli(*where) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].split()[:2] == ["total", "3"]
    assert "no Redis" in printed.err


async def test_usage_is_told_to_the_admin_alone(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither to nobody nor to a tenant; the command says how to give the key, and repeats none."""
    for key in ("", key_text("ann")):
        monkeypatch.setenv("CAPSTAN_ADMIN_KEY", key)
        assert await cli("--url", gateway.url) == 1
        said = capsys.readouterr().err
        assert "refused (401)" in said
        assert "CAPSTAN_ADMIN_KEY" in said
        assert not key or key not in said
    monkeypatch.setenv("CAPSTAN_ADMIN_KEY", ADMIN)
    assert await cli("--url", gateway.url) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--by", "day,weather"), "`by` must be a list of day, tenant, team, user, model"),
        (("--from", "yesterday"), "`from` must be days such as 2026-11-29"),
        (("--from", "2026-01-02", "--to", "2026-01-01"), "`from` must be at most 92 days"),
        (("--from", "2020-01-01"), "`from` must be at most 92 days"),
    ],
)
async def test_what_cannot_be_told_is_refused(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    """By the name of what is wrong, with what is allowed."""
    monkeypatch.setenv("CAPSTAN_ADMIN_KEY", ADMIN)
    assert await cli("--url", gateway.url, *words) == 1
    assert f"refused (400): {said}" in capsys.readouterr().err


async def test_a_wrong_address_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """No answer, no URL: an error, not a traceback."""
    for url in ("ftp://example.com", "nothing", "http://127.0.0.1:1"):
        assert await cli("--url", url) == 1
        assert capsys.readouterr().err.startswith("error: ")
