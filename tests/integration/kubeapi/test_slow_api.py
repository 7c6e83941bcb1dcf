"""The client of the Kubernetes API against one that answers byte by byte."""

import asyncio
import random
from pathlib import Path

import pytest

from capstan_gateway.kubeapi import client as kube_client
from capstan_gateway.kubeapi import reflector as reflectors
from capstan_gateway.kubeapi.client import KubeClient, KubeUnreachable, api_endpoint
from capstan_gateway.kubeapi.reflector import Reflector
from capstan_gateway.upstream.http1 import Http1Client
from support.rawserver import Peer, ok, raw_server
from support.wait import PATIENCE

LIST = b'{"metadata":{"resourceVersion":"1"},"items":[]}'


async def drip(peer: Peer) -> None:
    """Send a byte now and then, for ever."""
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        await peer.send(b" ")
        await asyncio.sleep(0.01)


async def test_a_list_that_drips_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of an answer has a deadline, not only the next byte."""
    monkeypatch.setattr(kube_client, "WHOLE_ANSWER_SECONDS", 0.1)

    async def script(peer: Peer) -> None:
        await peer.request()
        await drip(peer)

    http = Http1Client()
    try:
        async with raw_server(script) as server:
            client = KubeClient(http, api_endpoint(f"http://127.0.0.1:{server.port}"), tmp_path / "token")
            with pytest.raises(KubeUnreachable, match="total deadline"):
                await client.get("/api")
    finally:
        await http.aclose()


async def test_a_watch_that_drips_ends_and_another_one_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch without an end, and without a whole event, is taken for a dead one."""
    monkeypatch.setattr(reflectors, "LONGEST_WATCH_SECONDS", 0.1)
    monkeypatch.setattr(reflectors, "BACKOFF_FIRST", 0.01)
    watches = 0
    again = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal watches
        while b"watch=true" not in await peer.request():
            await peer.send(ok(LIST))
        watches += 1
        if watches == 2:
            again.set()
        await drip(peer)

    http = Http1Client()
    async with raw_server(script) as server:
        client = KubeClient(http, api_endpoint(f"http://127.0.0.1:{server.port}"), tmp_path / "token")
        rng = random.Random(1)  # noqa: S311 - jitter
        reflector = Reflector(client, "/api/v1/x", {}, replaced=len, changed=lambda *_: None, rng=rng)
        task = asyncio.create_task(reflector.run())
        try:
            await asyncio.wait_for(again.wait(), PATIENCE)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await http.aclose()
