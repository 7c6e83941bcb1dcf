"""How often a watch is begun that something between ends."""

import asyncio
from random import Random
from typing import cast

import pytest

from capstan_gateway.kubeapi.client import Json, KubeClient
from capstan_gateway.kubeapi.reflector import BACKOFF_MOST, Reflector
from capstan_gateway.upstream.port import UpstreamResponse
from support.virtualtime import run_virtually

BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"2"}}}\n'


class Watch:
    """A watch that says one thing and lasts so long."""

    def __init__(self, said: bytes, seconds: float) -> None:
        self._left = [said] if said else []
        self._seconds = seconds

    async def receive(self) -> bytes:
        """Give what is said, and then the end."""
        if self._left:
            return self._left.pop()
        await asyncio.sleep(self._seconds)
        return b""

    def abort(self) -> None:
        """Nothing is to be closed."""


class Api:
    """An API server whose watches all end alike."""

    def __init__(self, said: bytes, seconds: float) -> None:
        self._said, self._seconds = said, seconds
        self.watches = 0

    async def get(self, path: str, query: object) -> Json:
        """Give an empty list."""
        return {"metadata": {"resourceVersion": "1"}, "items": []}

    async def open_watch(self, path: str, query: object, *, seconds: float) -> UpstreamResponse:
        """Give the next watch."""
        self.watches += 1
        return cast(UpstreamResponse, Watch(self._said, self._seconds))


async def follow(api: Api, seconds: float) -> None:
    """Follow a collection for so long."""
    client = cast(KubeClient, api)
    reflector = Reflector(client, "/x", {}, replaced=len, changed=lambda *_: None, rng=Random(1))  # noqa: S311 - jitter
    task = asyncio.create_task(reflector.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("said", [b"", BOOKMARK])
def test_watches_that_end_at_once_are_begun_less_and_less_often(said: bytes) -> None:
    """Something between that ends every watch must not make all replicas ask the API many times a second."""
    api = Api(said, 0.0)
    run_virtually(follow(api, 600.0))
    assert api.watches < 600.0 / (BACKOFF_MOST * 0.2) + 10


def test_a_watch_that_ends_in_its_time_is_begun_again_at_once() -> None:
    """The server ends each of them after some minutes: that is no failure."""
    api = Api(b"", 270.0)
    run_virtually(follow(api, 270.0 * 20 + 3.0))
    assert api.watches == 21
