"""Tokens of an issuer let their users in: over a real gateway, and an issuer that publishes its keys over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_gateway.identity import issuer as module
from capstan_gateway.identity.admin_key import Standing
from capstan_gateway.process import listen
from capstan_gateway.surface import admin_listener
from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text
from support.oidc import AUDIENCE, FakeIssuer
from support.ports import free_port
from support.wait import eventually

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


@asynccontextmanager
async def gateway_of(
    issuer: FakeIssuer, directory: Path, upstream: FakeUpstream, **settings: Any
) -> AsyncIterator[RunningGateway]:
    """Run a gateway that trusts an issuer."""
    models = (entry("chat", upstream.url), entry("other", upstream.url))
    given = {
        "oidc_issuers": (issuer.url,), "oidc_audiences": (AUDIENCE,), "oidc_insecure_http": True,
        "insecure_no_auth": False, "keys": [key_entry("ann")], **settings,
    }  # fmt: skip
    async with running_gateway(directory, *models, **given) as gateway:
        assert gateway.gateway.tokens is not None
        known = gateway.gateway.tokens.issuers[issuer.url]
        await eventually(lambda: known.keys is not None or known.failure is not None, what="the first fetch")
        yield gateway


async def status(gateway: RunningGateway, token: str, path: str = CHAT) -> int:
    """Give the status of a request with a token, on a connection of its own."""
    headers = {"authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(gateway.url, headers=headers) as http,
        http.request("POST" if path == CHAT else "GET", path, json=BODY) as answer,
    ):
        return answer.status


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_lets_its_user_in(algorithm: str, tmp_path: Path, upstream: FakeUpstream) -> None:
    """By discovery or by the address of the keys; API keys go on beside it; nobody else is let in."""
    async with FakeIssuer(algorithm).running() as issuer, gateway_of(issuer, tmp_path, upstream) as gateway:
        for path in (CHAT, "/v1/models"):
            assert await status(gateway, issuer.sign(), path) == 200
            assert await status(gateway, key_text("ann"), path) == 200
            for wrong in (issuer.sign(aud="x"), issuer.sign(exp=5), issuer.sign(number=3), "eyJ.eyJ.x"):
                assert await status(gateway, wrong, path) == 401
        assert gateway.metric("gateway_oidc_fetches_total", issuer=issuer.url, outcome="success") >= 1


async def test_keys_at_an_address(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Where that is named no discovery document is asked for."""
    async with FakeIssuer("EdDSA").running() as issuer:
        issuer.named = "https://another"
        async with gateway_of(issuer, tmp_path, upstream, oidc_jwks_url=f"{issuer.url}/keys") as gateway:
            assert await status(gateway, issuer.sign()) == 200


async def test_a_discovery_document_of_another_issuer_is_not_followed(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Nobody's token can then be checked: 503, told in the notes; and keys are let in."""
    async with FakeIssuer("EdDSA").running() as issuer:
        issuer.named = "https://another"
        async with gateway_of(issuer, tmp_path, upstream) as gateway:
            assert await status(gateway, issuer.sign()) == 503
            assert await status(gateway, key_text("ann")) == 200
            assert any("could not be fetched" in note for note in gateway.gateway.notes())


async def test_whom_a_gateway_trusts_is_told_to_its_admin_alone(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Notes name issuers and what is wrong with them: /readyz of the API's port has them for the admin's key, that of a
    port of its own for all; so it is with the reason why it is not ready."""
    file = tmp_path / "admin-key"
    file.write_text("admin-admin-admin-admin")
    async with FakeIssuer("EdDSA").running() as issuer:
        issuer.named = "https://another"
        async with gateway_of(issuer, tmp_path, upstream, admin_key_file=file) as gateway:
            await eventually(lambda: gateway.gateway.admin_key.standing is Standing.KNOWN, what="the admin key")
            listener = await listen(admin_listener(gateway.gateway), gateway.gateway.settings, port := free_port())
            told = {}
            for given_up in (None, "oidc https://another"):
                gateway.gateway.jobs.given_up = given_up
                for url, key in (
                    (gateway.url, ""), (gateway.url, key_text("ann")), (gateway.url, "admin-admin-admin-admin"),
                    (f"http://127.0.0.1:{port}", ""),
                ):  # fmt: skip
                    headers = {"authorization": f"Bearer {key}"} if key else {}
                    async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz", headers=headers) as answer:
                        told[given_up, url == gateway.url, key] = await answer.text()
            await listener.close(grace_seconds=1.0)
            gateway.gateway.jobs.given_up = None
    secret = [issuer.url in text or "another" in text for text in told.values()]
    assert secret == [False, False, True, True] * 2
    assert "background work failed" in told["oidc https://another", True, ""]


async def test_keys_rotate(tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of a key that is published now is let in by its first request; one of a key that is withdrawn no more,
    also if it was known before."""
    monkeypatch.setattr(module, "REFETCH_SECONDS", 0.0)
    async with FakeIssuer("EdDSA").running() as issuer, gateway_of(issuer, tmp_path, upstream) as gateway:
        old = issuer.sign()
        assert await status(gateway, old) == 200
        issuer.published, issuer.number = [1], 1
        assert await asyncio.gather(*(status(gateway, issuer.sign()) for _ in range(5))) == [200] * 5
        assert await status(gateway, old) == 401
        assert await status(gateway, old, "/v1/models") == 401


async def test_an_issuer_that_is_down(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Its tokens are taken by the keys that are known, for a while; then none can be checked, until it is back."""
    async with (
        FakeIssuer("EdDSA").running() as issuer,
        gateway_of(issuer, tmp_path, upstream, oidc_refresh_seconds=0.05, oidc_stale_seconds=600.0) as gateway,
    ):
        assert gateway.gateway.tokens is not None
        known = gateway.gateway.tokens.issuers[issuer.url]
        token = issuer.sign()
        assert await status(gateway, token) == 200
        issuer.status = 500
        await eventually(lambda: known.failure is not None, what="a failure")
        assert await status(gateway, token) == 200
        known._stale_seconds = 0.0  # type: ignore[misc]  # The while is over.
        await eventually(lambda: known.keys is None, what="keys that are too old")
        assert await status(gateway, token) == 503
        issuer.status = 200
        await eventually(lambda: known.keys is not None, what="keys again")
        assert await status(gateway, token) == 200


async def test_claims_say_what_a_token_may_use(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Only the models of its claim are there; without the claim none is."""
    async with (
        FakeIssuer("EdDSA").running() as issuer,
        gateway_of(issuer, tmp_path, upstream, oidc_models_claim="models") as gateway,
    ):
        for models, names in ((["other"], ["auto", "other"]), (["*"], ["auto", "chat", "other"]), (None, [])):
            headers = {"x-api-key": issuer.sign(models=models)}
            async with aiohttp.ClientSession(gateway.url, headers=headers) as http:
                async with http.get("/v1/models") as answer:
                    assert [card["id"] for card in (await answer.json())["data"]] == names
                async with http.post(CHAT, json=BODY) as answer:
                    assert answer.status == (200 if "chat" in names else 404)


async def test_what_a_client_says_in_a_token_stays_with_us(
    tmp_path: Path, upstream: FakeUpstream, capfd: pytest.CaptureFixture[str]
) -> None:
    """No engine gets the token, and no line of the log has it, or a part of it."""
    async with (
        FakeIssuer("EdDSA").running() as issuer,
        gateway_of(issuer, tmp_path, upstream, log_level="debug") as gateway,
    ):
        token = issuer.sign()
        assert await status(gateway, token) == 200
        assert await status(gateway, issuer.sign(exp=5)) == 401
    assert not any("authorization" in str(one.headers).lower() for one in upstream.requests)
    assert "eyJ" not in capfd.readouterr().err
