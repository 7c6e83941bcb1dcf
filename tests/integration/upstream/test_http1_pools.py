"""Which requests share the connections to an endpoint."""

from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.port import Endpoint
from fakes.openai_upstream import FakeUpstream


@pytest.mark.parametrize("change", [{"base_path": b""}, {"tier": 3}, {"weight": 7}, {"credential": "other"}])
async def test_what_is_not_the_address_keeps_the_connections(change: dict) -> None:
    """A probe under another path, or a share that was edited, goes over the connections that are there."""
    async with FakeUpstream() as upstream:
        endpoint = Endpoint(id="m@h", host="127.0.0.1", port=urlsplit(upstream.url).port or 0, base_path=b"/v1")
        client = Http1Client()
        try:
            for used in (endpoint, replace(endpoint, **change), endpoint):
                response = await client.send(used, method=b"POST", path=b"/x", body=b'{"model":"m"}', repeatable=True)
                await response.read(10_000)
            assert client.connections() == {"m@h": (1, 1)}
            assert not client._retired
        finally:
            await client.aclose()
