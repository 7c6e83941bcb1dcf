"""What an API server, or something between, says that is no event, and tokens that are none: the job goes on."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from capstan_gateway.kubeapi import reflector as reflectors
from capstan_gateway.kubeapi.client import KubeClient, KubeError, api_endpoint
from capstan_gateway.kubeapi.reflector import Reflector
from capstan_gateway.upstream.http1 import Http1Client
from support.rawserver import Peer, ok, raw_server
from support.wait import PATIENCE

LIST = b'{"metadata":{"resourceVersion":"1"},"items":[]}'


@pytest.mark.parametrize(
    "event",
    [
        b'{"type":"ERROR","object":{"code":"none"}}',
        b'{"type":"ERROR","object":{"code":[]}}',
        b'{"type":"ADDED","object":{"metadata":[1]}}',
        b'{"type":"ADDED","object":{"metadata":"x"}}',
        b'{"type":"ADDED","object":7}',
        b"[]",
    ],
)
async def test_what_is_no_event_lists_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: bytes) -> None:
    """It is no bug of the job, which would begin anew and give up every replica in the end."""
    monkeypatch.setattr(reflectors, "BACKOFF_FIRST", 0.01)
    lists = 0
    again = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal lists
        while b"watch=true" not in await peer.request():
            lists += 1
            if lists == 2:
                again.set()
            await peer.send(ok(LIST))
        await peer.send(ok(event + b"\n"))

    async def check(client: KubeClient) -> None:
        rng = random.Random(1)  # noqa: S311 - jitter
        reflector = Reflector(client, "/api/v1/x", {}, replaced=len, changed=lambda *_: None, rng=rng)
        task = asyncio.create_task(reflector.run())
        waiting = asyncio.create_task(again.wait())
        done, _ = await asyncio.wait((task, waiting), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        for one in (task, waiting):
            one.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
        assert done == {waiting}

    await _with_client(script, tmp_path / "token", check)


async def test_a_token_that_cannot_be_used_is_an_error_like_an_absent_api(tmp_path: Path) -> None:
    """A file that cannot be read, or holds no token: what was known is kept, and it is tried again."""

    async def script(peer: Peer) -> None:
        await peer.request()

    async def check(client: KubeClient) -> None:
        with pytest.raises(KubeError, match="token"):
            await client.get("/api")

    (tmp_path / "lines").write_bytes(b"one\ntwo\n")
    (tmp_path / "folder").mkdir()
    for name in ("lines", "folder"):
        await _with_client(script, tmp_path / name, check)


async def _with_client(
    script: Callable[[Peer], Awaitable[None]], token: Path, check: Callable[[KubeClient], Awaitable[None]]
) -> None:
    http = Http1Client()
    try:
        async with raw_server(script) as server:
            await check(KubeClient(http, api_endpoint(f"http://127.0.0.1:{server.port}"), token))
    finally:
        await http.aclose()
