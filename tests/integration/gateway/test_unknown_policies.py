"""A gateway of a release that does not know guards yet, as there is one while the chart is upgraded or rolled back."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.config import RouterBackend, RouterMember
from capstan_contract.entries import PolicyTargets
from capstan_contract.guards import GuardBody, KeywordsGuard, Source, guard_entry
from capstan_contract.limits import RATE_LIMIT_KIND
from capstan_contract.requirements import Known
from capstan_gateway import composition
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer
from support.gateway import RunningGateway, entry, running_gateway

WORDS = KeywordsGuard(name="words", keywords=("x",), appliesTo=(Source.USER,), timeoutMillis=60_000)
GUARDS = guard_entry("t", "careful", GuardBody(input=(WORDS,)))
FLOOR = guard_entry("capstan", "floor", GuardBody(input=(WORDS,)), targets=PolicyTargets(everywhere=True))
MESSAGES: Any = [{"role": "user", "content": "hello"}]
SERVED, UNKNOWN, BROKEN = 200, 404, 502


async def engine(received: Received, wire: Wire) -> None:
    """Answer, unless it is for the model that cannot."""
    if received.document["model"] == "broken":
        await wire.json({"error": {"message": "out of memory"}}, status=500)
    else:
        await answer(received, wire)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """The engine of all models."""
    async with FakeUpstream(engine) as fake:
        yield fake


@pytest.fixture(autouse=True)
def an_older_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the gateway know limits, and no guards."""
    monkeypatch.setattr(composition, "KNOWN", Known(policy_kinds=frozenset((RATE_LIMIT_KIND,))))


async def statuses(gateway: RunningGateway, *names: str) -> list[int]:
    """Ask each of these models."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        body = {"messages": MESSAGES}
        return [(await client.post("/v1/chat/completions", json={"model": name, **body})).status_code for name in names]


async def offered(gateway: RunningGateway) -> set[str]:
    """Give the models that it lists."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        return {one["id"] for one in (await client.get("/v1/models")).json()["data"]}


async def test_a_model_with_guards_is_not_served_without_them(tmp_path: Path, upstream: FakeUpstream) -> None:
    """It is as if the model were not there, for a router and as a fallback too, and if it was served before it had
    guards; all others are served."""
    guarded = entry("guarded", upstream.url, policies=(GUARDS.id,))
    plain = entry("plain", upstream.url)
    falls = entry("falls", upstream.url, upstreamName="broken", fallbacks=("guarded",))
    only = entry("only", backend=RouterBackend(members=(RouterMember(model=guarded.id),)))
    members = tuple(RouterMember(model=one.id) for one in (guarded, plain))
    both = entry("both", backend=RouterBackend(members=members))
    names = ("guarded", "plain", "falls", "only", "both")
    async with running_gateway(tmp_path, entry("guarded", upstream.url)) as gateway:
        assert await statuses(gateway, "guarded") == [SERVED]
        await gateway.configure(guarded, plain, falls, only, both, policies=[GUARDS])
        before = len(upstream.requests)
        assert await offered(gateway) == {"auto", "plain", "falls", "both"}
        answers = dict(zip(names, await statuses(gateway, *names), strict=True))
        assert {name: answers[name] for name in ("guarded", "plain", "only", "both")} == {
            "guarded": UNKNOWN, "plain": SERVED, "only": UNKNOWN, "both": SERVED,
        }  # fmt: skip
        assert answers["falls"] == BROKEN
        assert {received.document["model"] for received in upstream.requests[before:]} == {"plain", "broken"}
        assert gateway.metric("gateway_config_refused_entries") == 3


async def test_guards_of_the_installation_leave_nothing_to_serve(tmp_path: Path, upstream: FakeUpstream) -> None:
    """What is in force on every model cannot be enforced on any, so that none is served."""
    models = [entry(name, upstream.url, policies=(FLOOR.id,)) for name in ("a", "b")]
    async with running_gateway(tmp_path, *models, policies=[FLOOR]) as gateway:
        assert await statuses(gateway, "a", "b") == [UNKNOWN, UNKNOWN]
        assert await offered(gateway) == set()
    assert upstream.requests == []
