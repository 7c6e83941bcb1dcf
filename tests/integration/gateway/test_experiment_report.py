"""`capstan experiment report` and `capstan feedback export`, from requests to what is printed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_contract.config import Price, RouterBackend, RouterMember, StickyBy, Strategy
from capstan_operator.cli.main import main
from fakes.openai_upstream import FakeUpstream, answer
from support.gateway import entry, running_gateway

ADMIN = "an-admin-key-of-more-than-sixteen-bytes"


async def cli(*words: str) -> int:
    """Run the command line beside the loop."""
    return await asyncio.to_thread(main, [*words])


async def test_a_dearer_member_is_told_from_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two members one of which is three times as dear the report says so, and of their errors that there is no
    difference; a client's opinion counts for the member that answered, and is exported without a word of what was
    asked; and a model that compares nothing is refused."""
    file = tmp_path / "admin"
    file.write_text(ADMIN)
    members = tuple(RouterMember(model=f"test/{name}", weight=1) for name in ("a", "b"))
    backend = RouterBackend(strategy=Strategy.WEIGHTED, stickyBy=StickyBy.USER, members=members)
    async with FakeUpstream(answer) as one, FakeUpstream(answer) as other:
        cheap, dear = (Price(inputPerMillion=dollars, outputPerMillion=dollars) for dollars in (1, 3))
        models: Any = (
            entry("a", one.url, price=cheap), entry("b", other.url, price=dear), entry("ab", backend=backend)
        )  # fmt: skip
        async with (
            running_gateway(tmp_path, *models, admin_key_file=file) as gateway,
            aiohttp.ClientSession(gateway.url) as http,
        ):
            id = ""
            for user in range(600):
                body = {"model": "ab", "user": f"u{user}", "messages": [{"role": "user", "content": "plum"}]}
                async with http.post("/v1/chat/completions", json=body) as said:
                    document = await said.json()
                    id = document.get("id", id)
            async with http.post("/v1/feedback", json={"response_id": id, "label": "bad", "comment": "no"}) as said:
                assert said.status == 200
            await gateway.settled()
            where = "--url", gateway.url, "--key-file", str(file)
            assert await cli("experiment", "report", "ab", *where) == 0
            told = capsys.readouterr().out
            assert await cli("experiment", "report", "ab", "--json", *where) == 0
            report = json.loads(capsys.readouterr().out)
            assert await cli("feedback", "export", *where) == 0
            exported = capsys.readouterr().out
            assert await cli("experiment", "report", "a", *where) == 1
            refused = capsys.readouterr().err
    cost, errors = (
        next(line for line in told.splitlines() if f"  {name}: " in line) for name in ("cost", "error rate")
    )
    assert cost.endswith("higher, which is worse")
    assert "no difference seen yet" in errors
    assert sum(one["requests"] for one in report["members"]) == 600
    (found,) = [one for one in report["differences"] if one["metric"] == "costNanos"]
    assert found["member"] == "test/b"
    assert found["low"] > 0
    assert sum(one["feedbackMillis"]["count"] for one in report["members"]) == 1
    assert [json.loads(one)["id"] for one in exported.splitlines()] == [id]
    assert "plum" not in exported
    assert "strategy: Weighted" in refused
