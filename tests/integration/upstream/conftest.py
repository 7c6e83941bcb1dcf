"""Both event loops that the client runs on: uvloop in the gateway, asyncio's own elsewhere."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from capstan_gateway.upstream.http1 import Http1Client


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each test of this folder once on each loop; what mutants are tried with runs once."""
    if os.environ.get("CAPSTAN_HYPOTHESIS_PROFILE") == "mutants":
        return {"asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def client() -> AsyncIterator[Http1Client]:
    """A client that is closed at the end, and then has no connection left."""
    client = Http1Client()
    try:
        yield client
    finally:
        await client.aclose()
        assert client.connections() == {}
