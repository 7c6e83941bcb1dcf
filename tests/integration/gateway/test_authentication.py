"""Who is let in: by whichever header, on every route, before anything of a request is read."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_contract.config import Provider
from capstan_gateway.identity.admin_key import Standing
from capstan_gateway.inference.routes import ROUTES
from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway, entry, hosted_by, running_gateway
from support.keys import key_entry, key_text
from support.wait import eventually

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
BEARER = {"authorization": f"Bearer {key_text('ann')}"}
PAGES = ("/v1/models", "/v1/models/chat", "/v1/responses/resp_1", "/docs", "/openapi.json", "/nowhere", "/metrics")


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway that asks for keys, and knows one."""
    models = (entry("chat", upstream.url), entry("other", upstream.url))
    async with running_gateway(
        tmp_path, *models, keys=[key_entry("ann", user="ann")], insecure_no_auth=False
    ) as running:
        yield running


@pytest.mark.parametrize(
    "headers",
    [
        BEARER,
        {"x-api-key": key_text("ann")},
        {"api-key": key_text("ann")},
        {"authorization": f"bearer {key_text('ann')}"},
    ],
)
async def test_each_header_lets_its_clients_in(http: aiohttp.ClientSession, headers: dict[str, str]) -> None:
    """Those of OpenAI, Anthropic and Azure; on routes of inference and on pages."""
    async with http.post(CHAT, json=BODY, headers=headers) as answer:
        assert answer.status == 200
    async with http.get("/v1/models", headers=headers) as answer:
        assert [card["id"] for card in (await answer.json())["data"]] == ["auto", "chat", "other"]


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer sk-secret-guess"}, {"x-api-key": "sk-secret-guess"}])
async def test_nobody_else_is_let_in(
    gateway: RunningGateway, http: aiohttp.ClientSession, upstream: FakeUpstream, headers: dict[str, str],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Every route and page answers 401 in the envelope of its API, with an id; no engine hears of it, and no answer
    repeats what was sent."""
    count = 0
    for method, path in (*(("POST", route.path) for route in ROUTES), *(("GET", page) for page in PAGES)):
        async with http.request(method, path, headers={**headers, "x-request-id": "mine"}, json=BODY) as answer:
            text = await answer.text()
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path
            assert answer.headers["x-request-id"] == "mine"
            assert "secret" not in text
            error = json.loads(text)["error"]
            if path.startswith("/v1/messages"):
                assert error["type"] == "authentication_error"
            else:
                assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
        count += 1
    assert upstream.requests == []
    assert gateway.metric("gateway_admission_rejected_total", reason="unauthenticated") == count
    assert "secret" not in capfd.readouterr().err


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/", 200), ("HEAD", "/", 200), ("GET", "/api/hello", 200), ("GET", "/healthz", 200),
    ("GET", "/readyz", 200),
    ("GET", CHAT, 405), ("OPTIONS", CHAT, 405), ("HEAD", "/v1/models", 401), ("OPTIONS", "/v1/models", 401),
])  # fmt: skip
async def test_what_is_open(http: aiohttp.ClientSession, method: str, path: str, status: int) -> None:
    """Who looks for a gateway, or whether it is well, needs no key; a wrong method is refused as ever."""
    async with http.request(method, path) as answer:
        assert answer.status == status


async def test_a_key_that_is_revoked_is_refused_by_the_next_config(
    gateway: RunningGateway, http: aiohttp.ClientSession, upstream: FakeUpstream
) -> None:
    """A request that is being served by then goes on; two keys of one user are valid side by side."""
    models = (entry("chat", upstream.url), entry("other", upstream.url))
    entered, go_on = asyncio.Event(), asyncio.Event()
    respond = upstream.respond

    async def held(*arguments: Any) -> Any:
        entered.set()
        await go_on.wait()
        return await respond(*arguments)

    upstream.respond = held
    running = asyncio.create_task(http.post(CHAT, json=BODY, headers=BEARER))
    await entered.wait()
    await gateway.configure(*models, keys=[key_entry("ann", user="ann"), key_entry("ann-2", user="ann")])
    both = (BEARER, {"authorization": f"Bearer {key_text('ann-2')}"})
    for headers in both:
        async with http.get("/v1/models", headers=headers) as answer:
            assert answer.status == 200
    await gateway.configure(*models, keys=[key_entry("ann-2", user="ann")])
    statuses = []
    for headers in both:
        async with http.get("/v1/models", headers=headers) as answer:
            statuses.append(answer.status)
    assert statuses == [401, 200]
    go_on.set()
    async with await running as answer:
        assert answer.status == 200


async def test_a_refusal_does_not_wait_for_the_body(gateway: RunningGateway) -> None:
    """It is sent as soon as the head is there; of a body that is still on its way the rest is not waited for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{" % CHAT.encode())
    async with asyncio.timeout(60):
        said = await reader.read(-1)
    assert said.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close\r\n" in said
    writer.close()


async def test_a_client_that_asks_first_sends_no_body(gateway: RunningGateway) -> None:
    """Who waits for 100 is refused instead of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 99\r\n\r\n" % CHAT.encode())
    async with asyncio.timeout(60):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_a_connection_goes_on_behind_a_refusal(gateway: RunningGateway) -> None:
    """Where the body was small and is there, the next request on the connection is served."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (
        CHAT.encode(),
        2,
    )
    for lines, status in ((b"", b"401"), (b"api-key: %b\r\n" % key_text("ann").encode(), b"400")):
        writer.write(head + lines + b"\r\n{}")
        async with asyncio.timeout(60):
            said = await reader.readuntil(b"\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 " + status)
            length = int(said.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
    writer.close()


async def test_where_everybody_is_served_a_known_key_still_says_who_it_is(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    """A dummy is ignored; the list of models of a key is kept to."""
    models = (entry("chat", upstream.url), entry("other", upstream.url))
    async with (
        running_gateway(tmp_path, *models, keys=[key_entry("bob", models=("other",))]) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        for headers, status in (({}, 200), ({"api-key": "dummy"}, 200), ({"api-key": key_text("bob")}, 404)):
            async with http.post(CHAT, json=BODY, headers=headers) as answer:
                assert answer.status == status


async def test_a_hosted_model_is_told_of_the_verified_user(tmp_path: Path, upstream: FakeUpstream) -> None:
    """By a hash that is one for each of them, whatever the client calls its user; two tenants' users are never one."""
    hosted = entry("gpt", backend=hosted_by(Provider.OPENAI, upstream.url, key=None))
    keys = [key_entry("ann", user="ann"), key_entry("red", team="red"), key_entry("blue", team="blue")]
    async with (
        running_gateway(tmp_path, hosted, keys=keys, insecure_no_auth=False) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        for key, user in (("ann", "x"), ("ann", "y"), ("red", "x"), ("red", "y"), ("blue", "x")):
            body = {**BODY, "model": "gpt", "user": user}
            async with http.post(CHAT, json=body, headers={"api-key": key_text(key)}) as answer:
                assert answer.status == 200
    told = [request.document["user"] for request in upstream.requests]
    assert all(name.startswith("u_") for name in told)
    assert told[0] == told[1]
    assert len(set(told[1:])) == 4


async def test_the_admins_key_is_one_of_its_own(tmp_path: Path, upstream: FakeUpstream) -> None:
    """On the API's port it opens what is the admin's, and nothing else; a key of the API opens none of that."""
    file = tmp_path / "admin-key"
    file.write_text("admin-admin-admin-admin")
    async with (
        running_gateway(
            tmp_path, entry("chat", upstream.url), keys=[key_entry("ann")], insecure_no_auth=False, admin_key_file=file
        ) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        await eventually(lambda: running.gateway.admin_key.standing is Standing.KNOWN, what="the admin key")
        admin = {"authorization": "Bearer admin-admin-admin-admin"}
        for path, headers, status in (
            ("/internal/config", admin, 200), ("/metrics", admin, 200), ("/v1/models", admin, 401),
            ("/internal/config", BEARER, 401), ("/metrics", BEARER, 401), ("/internal/config", {}, 401),
        ):  # fmt: skip
            async with http.get(path, headers=headers) as answer:
                assert answer.status == status, (path, headers)
