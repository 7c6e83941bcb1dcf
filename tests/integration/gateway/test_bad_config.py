"""A config that is not right costs nothing but itself."""

import asyncio
from collections.abc import Generator
from pathlib import Path

import aiohttp
import pytest

from capstan_contract.config import ExternalBackend, ExternalEndpoint, GatewayConfig, Provider
from capstan_contract.sharding import split_config
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.config.store import DIRECTORY, ConfigStore
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.upstream.errors import ConnectFailed
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.port import Endpoint
from fakes.openai_upstream import FakeUpstream
from support.gateway import entry, running_gateway, write_config
from support.wait import eventually


async def test_a_url_that_cannot_be_keeps_the_last_good_config(tmp_path: Path) -> None:
    """One hosted model with an impossible port does not end the gateway; the error is shown."""
    async with FakeUpstream() as upstream, running_gateway(tmp_path, entry("chat", upstream.url)) as gateway:
        endpoint = ExternalEndpoint.model_construct(name="default", url="https://h:99999/v1")
        backend = ExternalBackend.model_construct(provider=Provider.OPENAI, endpoints=(endpoint,))
        bad = entry("bad").model_copy(update={"backend": backend})
        write_config(gateway.directory, (entry("chat", upstream.url), bad))
        await eventually(lambda: gateway.gateway.store.error is not None, what="the error")
        async with aiohttp.ClientSession(gateway.url) as http, http.get("/v1/models/chat") as response:
            assert response.status == 200
        assert "url" in (gateway.gateway.store.error or "")
        assert gateway.metric("gateway_config_last_reload_success") == 0


async def test_a_config_that_cannot_be_compiled_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong in compiling: the error is shown, logged with its trace, and nothing is raised."""

    def build(config: GatewayConfig, previous: Runtime | None) -> Generator[None, None, Runtime]:
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
        async with asyncio.timeout(30):
            with pytest.raises(ConnectFailed):
                await client.send(Endpoint(id="m@h", host=host, port=80), method=b"GET", path=b"/")
    finally:
        await client.aclose()
