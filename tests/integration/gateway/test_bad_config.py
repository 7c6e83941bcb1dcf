"""A config that is not right costs nothing but itself."""

import asyncio
from collections.abc import Generator
from pathlib import Path

import aiohttp
import pytest

from capstan_contract.config import ExternalBackend, ExternalEndpoint, GatewayConfig, Provider
from capstan_contract.sharding import split_config
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.config.store import DIRECTORY, ConfigStore, Prepared
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.upstream.errors import ConnectFailed
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.port import Endpoint
from fakes.openai_upstream import FakeUpstream
from support.gateway import entry, running_gateway, write_config
from support.wait import eventually


async def test_a_url_that_cannot_be_costs_its_own_model_only(tmp_path: Path) -> None:
    """One hosted model with an impossible port ends neither the gateway nor the others; it is refused, and named."""
    async with FakeUpstream() as upstream, running_gateway(tmp_path, entry("chat", upstream.url)) as gateway:
        endpoint = ExternalEndpoint.model_construct(name="default", url="https://h:99999/v1")
        backend = ExternalBackend.model_construct(provider=Provider.OPENAI, endpoints=(endpoint,))
        bad = entry("bad").model_copy(update={"backend": backend})
        write_config(gateway.directory, (entry("chat", upstream.url), entry("more", upstream.url), bad))
        await eventually(lambda: gateway.gateway.store.refused, what="the refusal")
        async with aiohttp.ClientSession(gateway.url) as http, http.get("/v1/models") as response:
            assert {model["id"] for model in (await response.json())["data"]} >= {"chat", "more"}
        assert list(gateway.gateway.store.refused) == ["test/bad"]
        assert "url" in str(gateway.gateway.store.refused["test/bad"])
        assert gateway.metric("gateway_config_refused_entries") == 1
        assert gateway.metric("gateway_config_last_reload_success") == 1


async def test_a_config_that_cannot_be_compiled_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong in compiling: the error is shown, logged with its trace, and nothing is raised."""

    def build(config: GatewayConfig, previous: Runtime | None) -> Generator[None, None, Prepared]:
        yield
        raise LookupError("a bug")

    store = ConfigStore(build, Metrics())
    assert await store.offer(split_config(GatewayConfig.build((entry("chat"),))), source=DIRECTORY) is False
    assert store.report().error == "the config could not be compiled: LookupError"
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("host", ["foo..example.com", "a" * 64 + ".example.com"])
async def test_a_name_that_cannot_be_encoded_is_a_failure_to_connect(host: str) -> None:
    """A name that no resolver can be asked for fails like one that does not exist."""
    client = Http1Client()
    try:
        async with asyncio.timeout(60):
            with pytest.raises(ConnectFailed):
                await client.send(Endpoint(id="m@h", host=host, port=80), method=b"GET", path=b"/")
    finally:
        await client.aclose()
