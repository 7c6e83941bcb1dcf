"""The keys of an issuer, fetched in the background."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import pytest

from capstan_gateway.identity import issuer as module
from capstan_gateway.identity.issuer import REFETCH_SECONDS, WAIT_SECONDS, Issuer
from capstan_gateway.identity.published import Unpublished, keys_url_in, place_of
from capstan_gateway.identity.signatures import read_key
from support.oidc import private_key, public_jwk
from support.virtualtime import run_virtually

URL = "https://id.example.com"


class World:
    """An issuer under test, and what it is told."""

    def __init__(self, **options: Any) -> None:
        self.published: list[int] = [0]
        self.down = False
        self.slow = 0.0
        self.fetches: list[float] = []
        self.outcomes: list[str] = []
        self.changes = 0
        self.loop = asyncio.get_running_loop()
        given = {"refresh_seconds": 300.0, "stale_seconds": 3600.0, **options}
        self.issuer = Issuer(
            URL, self._fetch, read_key, clock=self.loop.time, rng=random.Random(1),  # noqa: S311 - no secret
            on_fetched=self.outcomes.append, **given,
        )  # fmt: skip
        self.issuer.on_changed = self._changed

    def _changed(self) -> None:
        self.changes += 1

    async def _fetch(self) -> bytes:
        self.fetches.append(self.loop.time())
        await asyncio.sleep(self.slow)
        if self.down:
            raise Unpublished("id.example.com could not be read: ConnectFailed")
        keys = [public_jwk(private_key("EdDSA", one), "EdDSA", kid=f"k{one}") for one in self.published]
        return orjson.dumps({"keys": keys})

    def knows(self, number: int) -> bool:
        """Say whether a key is known."""
        return self.issuer.keys is not None and self.issuer.keys.find(f"k{number}", "EdDSA") is not None


def virtually(story: Callable[[World], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Tell a story while the issuer runs, in time that costs nothing."""

    async def main() -> None:
        world = World(**options)
        running = asyncio.create_task(world.issuer.run())
        await asyncio.sleep(0.1)
        try:
            await story(world)
        finally:
            running.cancel()

    run_virtually(main())


def test_keys_are_fetched_at_once_and_then_now_and_then() -> None:
    """What has not changed is the same set of keys, and nothing is checked anew for it; what has is another one."""

    async def story(world: World) -> None:
        first = world.issuer.keys
        assert world.knows(0)
        await asyncio.sleep(1000)
        assert 3 <= len(world.fetches) <= 5
        assert world.issuer.keys is first
        world.published = [0, 1]
        await asyncio.sleep(400)
        assert world.knows(1)
        assert world.changes == 2
        assert set(world.outcomes) == {"success"}

    virtually(story)


def test_an_issuer_that_is_down_is_believed_for_a_while() -> None:
    """It is asked again, more and more seldom; what is known stays until it is too old, and comes back."""

    async def story(world: World) -> None:
        world.down = True
        await asyncio.sleep(3000)
        assert world.knows(0)
        assert world.issuer.failure is not None
        assert len(world.fetches) < 120
        await asyncio.sleep(1500)
        assert world.issuer.keys is None
        assert world.changes == 2
        world.down = False
        await asyncio.sleep(70)
        assert world.knows(0)
        assert world.issuer.failure is None

    virtually(story)


def test_one_unknown_key_has_the_keys_fetched_for_all_who_wait() -> None:
    """A hundred tokens of a new key cost one fetch, and all of them learn of it."""

    async def story(world: World) -> None:
        await asyncio.sleep(REFETCH_SECONDS)
        world.published, world.slow = [0, 1], 0.5
        assert world.issuer.may_learn
        await asyncio.gather(*(world.issuer.learn() for _ in range(100)))
        assert world.knows(1)
        assert len(world.fetches) == 2

    virtually(story)


def test_made_up_keys_cost_one_fetch_in_five_seconds() -> None:
    """Who sends token after token with keys that nobody has learns nothing more, and waits for nothing."""

    async def story(world: World) -> None:
        for _ in range(200):
            await world.issuer.learn()
            await asyncio.sleep(0.1)
        assert len(world.fetches) <= 1 + 20 / REFETCH_SECONDS + 1
        assert not world.issuer.may_learn

    virtually(story)


def test_nobody_waits_long_nor_in_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow issuer keeps a request for two seconds at most, and a bounded number of them."""
    monkeypatch.setattr(module, "MOST_WAITING", 3)

    async def story(world: World) -> None:
        await asyncio.sleep(REFETCH_SECONDS)
        world.slow = 60.0
        began = world.loop.time()
        waiting = [asyncio.create_task(world.issuer.learn()) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert not world.issuer.may_learn
        await world.issuer.learn()
        assert world.loop.time() - began < 1
        await asyncio.gather(*waiting)
        assert world.loop.time() - began == pytest.approx(WAIT_SECONDS, abs=0.2)

    virtually(story)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"issuer":"https://else","jwks_uri":"https://x"}'])
def test_a_document_of_another_issuer_is_none(text: bytes) -> None:
    """Only what the issuer says of itself says where its keys are."""
    with pytest.raises(Unpublished):
        keys_url_in(text, URL)
    assert keys_url_in(orjson.dumps({"issuer": URL, "jwks_uri": "https://x/k"}), URL) == "https://x/k"


@pytest.mark.parametrize(
    "url",
    ["http://id.example.com/k", "ftp://x/k", "file:///etc/passwd", "https://", "https://u:p@x/k", "https://x:y/k", "k",
     "https://x/a b", "https://x/\r\nhost: y"],
)  # fmt: skip
def test_keys_come_over_https(url: str) -> None:
    """Whatever else an issuer, or who speaks for it, names."""
    with pytest.raises(Unpublished):
        place_of(url, allow_http=False)


def test_where_keys_are() -> None:
    """Host, port, path and query; the authority of the settings only over TLS."""
    endpoint, path = place_of("https://id.example.com/a/keys?v=2", allow_http=False, tls="oidc")
    assert (endpoint.host, endpoint.port, endpoint.scheme, endpoint.tls, path) == (
        "id.example.com", 443, "https", "oidc", b"/a/keys?v=2",
    )  # fmt: skip
    endpoint, path = place_of("http://127.0.0.1:8080", allow_http=True, tls="oidc")
    assert (endpoint.port, endpoint.scheme, endpoint.tls, path) == (8080, "http", "", b"/")
