"""As much of a Kubernetes API as the gateway uses, that says whatever a test wants it to say."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support.rawserver import Peer, ok, raw_server

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


class FakeKubeApi:
    """Lists by the plural name of a kind, and the events of their watches. Nothing is checked."""

    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = defaultdict(list)
        self.watches: dict[str, set[asyncio.Queue[Any]]] = defaultdict(set)
        self.url = ""

    def tell(self, plural: str, kind: str, item: object) -> None:
        """Send an event to every watch of this kind."""
        for queue in self.watches[plural]:
            queue.put_nowait({"type": kind, "object": item})

    async def serve(self, peer: Peer) -> None:
        """Answer on one connection."""
        while True:
            target = (await peer.request()).split(b" ")[1].decode()
            path, _, query = target.partition("?")
            plural = path.rsplit("/", 1)[1]
            if "watch=true" in query:
                await self._watch(peer, plural)
            else:
                document = {"metadata": {"resourceVersion": "1"}, "items": self.lists[plural]}
                await peer.send(ok(json.dumps(document).encode()))

    async def _watch(self, peer: Peer, plural: str) -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self.watches[plural].add(queue)
        try:
            await peer.send(HEAD)
            while True:
                line = json.dumps(await queue.get()).encode() + b"\n"
                await peer.send(b"%x\r\n%b\r\n" % (len(line), line))
        finally:
            self.watches[plural].discard(queue)


@asynccontextmanager
async def fake_kube_api() -> AsyncIterator[FakeKubeApi]:
    """Serve until the block ends."""
    api = FakeKubeApi()
    async with raw_server(api.serve) as server:
        api.url = f"http://127.0.0.1:{server.port}"
        yield api
