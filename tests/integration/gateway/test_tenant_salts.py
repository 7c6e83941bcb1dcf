"""Two tenants at one engine: what is computed for one is never taken over for the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text
from support.worker import Worker, simulator

TEXT = " ".join(f"word{number}" for number in range(200))
MESSAGES: Any = [{"role": "system", "content": TEXT}, {"role": "user", "content": "go on"}]
CHAT = "/v1/chat/completions"
ROUTES: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": MESSAGES, "max_tokens": 1}),
    (CHAT, {"messages": MESSAGES, "max_tokens": 1, "stream": True}),
    ("/v1/messages", {"system": TEXT, "messages": MESSAGES[1:], "max_tokens": 1}),
    ("/v1/responses", {"instructions": TEXT, "input": "go on", "max_output_tokens": 16}),
    ("/v1/completions", {"prompt": TEXT, "max_tokens": 1}),
    ("/v1/completions", {"prompt": [TEXT, TEXT + " more"], "max_tokens": 1}),
]
KEYS = (key_entry("a", tenant="a"), key_entry("a2", tenant="a"), key_entry("b", tenant="b"))
HITS = "vllm:prefix_cache_hits_total"


@asynccontextmanager
async def serving(folder: Path, sim: Worker, **fields: Any) -> AsyncIterator[tuple[RunningGateway, httpx2.AsyncClient]]:
    """A gateway of two tenants before this engine, and a client of it."""
    model = entry("sim", sim.url, **fields)
    async with (
        running_gateway(folder, model, keys=KEYS, insecure_no_auth=False) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        yield gateway, client


async def ask(client: httpx2.AsyncClient, key: str, path: str, body: dict[str, Any]) -> httpx2.Response:
    """Ask with the key of this name."""
    headers = {"authorization": f"Bearer {key_text(key)}"}
    response = await client.post(path, json={"model": "sim", **body}, headers=headers)
    assert response.status_code == 200, response.text
    return response


ISOLATED: dict[str, Any] = {"tenantSalt": True, "requires": ("tenantSalt",)}


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_a_tenant_hits_only_what_is_its_own(path: str, body: dict[str, Any], tmp_path: Path) -> None:
    """The same prompt of another tenant hits nothing, on any route; another key of the same tenant hits it."""
    with simulator() as sim:
        async with serving(tmp_path, sim, **ISOLATED) as (_, client):
            await ask(client, "a", path, body)
            before = sim.metric(HITS)
            await ask(client, "b", path, body)
            assert sim.metric(HITS) - before == before  # what the request hits of its own: two prompts in one
            await ask(client, "a2", path, body)
            assert sim.metric(HITS) - 2 * before > before


async def test_without_isolation_all_share(tmp_path: Path) -> None:
    """As engines do: what one tenant has computed, another one takes over."""
    with simulator() as sim:
        async with serving(tmp_path, sim) as (_, client):
            await ask(client, "a", *ROUTES[0])
            await ask(client, "b", *ROUTES[0])
            assert sim.metric(HITS) > 0


async def test_a_salt_of_the_clients_own_counts_within_its_tenant(tmp_path: Path) -> None:
    """Two salts of one tenant share nothing; the same salt of another tenant opens nothing."""
    path, body = ROUTES[0]
    with simulator() as sim:
        async with serving(tmp_path, sim, **ISOLATED) as (_, client):
            for key, salt in (("a", None), ("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")):
                await ask(client, key, path, {**body, **({"cache_salt": salt} if salt else {})})
            assert sim.metric(HITS) == 0
            await ask(client, "a2", path, {**body, "cache_salt": "x"})
            assert sim.metric(HITS) > 0


@pytest.mark.parametrize("salt", ["", 5, ["x"], {}])
async def test_a_salt_that_is_no_text_is_refused(salt: Any, tmp_path: Path) -> None:
    """With its name, before any engine is asked."""
    path, body = ROUTES[0]
    with simulator() as sim:
        async with serving(tmp_path, sim, **ISOLATED) as (_, client):
            headers = {"authorization": f"Bearer {key_text('a')}"}
            refused = await client.post(path, json={"model": "sim", **body, "cache_salt": salt}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "cache_salt")
