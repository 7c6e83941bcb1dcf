"""Images by URL around the call of a model whose engines fetch none."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from capstan_contract.config import Task
from capstan_gateway.errors import InvalidRequest, Overloaded, UpstreamTimeout
from capstan_gateway.images.outcome import Outcome
from capstan_gateway.memory import MemoryBudget, Share
from capstan_gateway.pipeline import images
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.images import answer_with_images
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.pipeline.request import Request, Route
from support.asks import CHAT, an_ask

URL = "https://img.example.com/a"
DATA = "data:image/png;base64,AA=="
MODEL: Any = SimpleNamespace(name="m")
COUNT = Route("/v1/messages/count_tokens", b"/messages/count_tokens", frozenset((Task.CHAT,)))


class Fetcher:
    """Gives the same image for every URL, or never comes back."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.asked: list[str] = []
        self.hangs = hangs

    async def fetch(self, url: str, share: Share) -> Outcome:
        """Take some memory for it."""
        self.asked.append(url)
        if self.hangs:
            await asyncio.Event().wait()
        assert share.grow(len(DATA))
        return DATA


def asking(*urls: str, route: Route = CHAT, budget: int = 1 << 20, part: Any = None) -> Ask:
    """Give an ask with these images."""
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls] + ([part] if part else [])
    document = {"model": "m", "messages": [{"role": "user", "content": content}]}
    request = Request(route, document, stream=False, usage_asked=False, came=len(orjson.dumps(document)))
    like = an_ask()
    return Ask(
        request, MODEL, runtime=like.runtime, started=0.0,
        expires_at=asyncio.get_running_loop().time() + 60.0, budget=MemoryBudget(budget), holders=1,
    )  # fmt: skip


async def answer(ask: Ask, fetcher: Fetcher, seen: list[Request], error: Exception | None = None) -> Reply:
    """Ask a model that remembers what it was asked."""

    async def inner(ask: Ask) -> Reply:
        seen.append(ask.request)
        held.append(ask.budget.held)
        if error is not None:
            raise error
        return WholeReply(200, b"application/json", b"{}")

    held: list[int] = []
    deps = cast(Any, SimpleNamespace(max_body_bytes=1 << 20))
    try:
        return await answer_with_images(deps, cast(Any, fetcher), MODEL, inner, ask)
    finally:
        if seen and seen[-1] is not ask.request:
            assert held == [len(DATA) + seen[-1].came], "the images, and the request with them"


async def test_a_model_is_asked_with_the_images_in_the_request() -> None:
    """The request itself stays as it was; what is sent is in the budget as long as it may be sent, and no longer."""
    ask, fetcher, seen = asking(URL, URL), Fetcher(), list[Request]()
    given = ask.request
    await answer(ask, fetcher, seen)
    urls = [part["image_url"]["url"] for part in seen[0].document["messages"][0]["content"]]
    assert urls == [DATA, DATA]
    assert seen[0].came == given.came + 2 * len(DATA)
    assert (ask.request, given.document["messages"][0]["content"][0]["image_url"]["url"]) == (given, URL)
    assert ask.budget.held == len(DATA)
    with pytest.raises(ValueError, match="no"):
        await answer(ask, fetcher, seen, ValueError("no"))
    assert (ask.request, ask.budget.held, fetcher.asked) == (given, len(DATA), [URL])
    ask.leave()
    assert ask.budget.held == 0


async def test_a_request_without_urls_is_asked_as_it_is() -> None:
    """Nothing is fetched, and nothing taken."""
    ask, fetcher, seen = asking(DATA), Fetcher(), list[Request]()
    await answer(ask, fetcher, seen)
    assert (seen, fetcher.asked, ask.budget.held) == ([ask.request], [], 0)


async def test_the_total_deadline_holds_while_images_are_fetched() -> None:
    """When the time of the request is over nobody waits for its images any more."""
    ask, seen = asking(URL), list[Request]()
    ask.expires_at = asyncio.get_running_loop().time() + 0.05  # type: ignore[misc]
    with pytest.raises(UpstreamTimeout):
        await answer(ask, Fetcher(hangs=True), seen)
    assert (seen, ask.budget.held) == ([], 0)


async def test_without_room_for_what_is_sent_nobody_is_asked() -> None:
    """The request with its images is a copy of its own: it needs room too."""
    ask, seen = asking(URL, budget=len(DATA) * 2), list[Request]()
    ask.budget._large = 1000  # All of it may be had by one.
    with pytest.raises(Overloaded):
        await answer(ask, Fetcher(), seen)
    assert (seen, ask.budget.held) == ([], len(DATA))


async def test_a_sound_by_url_is_refused() -> None:
    """No engine is sent the address of something that the gateway does not fetch."""
    part = {"type": "audio_url", "audio_url": {"url": "https://img.example.com/a.wav"}}
    ask, fetcher, seen = asking(URL, part=part), Fetcher(), list[Request]()
    with pytest.raises(InvalidRequest) as caught:
        await answer(ask, fetcher, seen)
    assert (caught.value.param, caught.value.code) == ("messages.0.content.1.audio_url", "unsupported_value")
    assert (fetcher.asked, seen) == ([], [])


async def test_an_engine_counts_nothing_that_it_would_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A count of a prompt with images by URL is an estimate; of one without it is the engine's."""
    estimate = WholeReply(200, b"application/json", b"5")

    async def estimated(_deps: Any, _ask: Ask, model: Any) -> Reply:
        assert model is MODEL
        return estimate

    monkeypatch.setattr(images, "estimated", estimated)
    ask, fetcher, seen = asking(URL, route=COUNT), Fetcher(), list[Request]()
    assert await answer(ask, fetcher, seen) is estimate
    assert (fetcher.asked, seen) == ([], [])
    await answer(asking(route=COUNT), fetcher, seen)
    assert len(seen) == 1
