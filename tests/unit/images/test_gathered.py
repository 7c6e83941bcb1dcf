"""The images of one request: how many are fetched at once, how often, and what they hold."""

import asyncio

import pytest

from capstan_gateway.errors import GatewayError, ImageUnavailable, InvalidRequest, Overloaded, RequestTooLarge
from capstan_gateway.images.gathered import MAX_IMAGES, MAX_OF_ONE, GatheredImages
from capstan_gateway.images.outcome import LATE, NO_ROOM, UNREACHABLE, WRONG, Failure, Outcome
from capstan_gateway.images.urls import Place
from capstan_gateway.memory import MemoryBudget, Share
from support.wait import PATIENCE, eventually


class Fetcher:
    """Gives what a test says, and an image of 100 bytes for every other URL."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.at_once = self.most = 0
        self.says: dict[str, Outcome] = {}
        self.hangs: set[str] = set()

    async def fetch(self, url: str, share: Share) -> Outcome:
        """Take the memory of one, in its own time."""
        self.asked.append(url)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            assert share.grow(100)
            await (asyncio.Event().wait() if url in self.hangs else asyncio.sleep(0))
        finally:
            self.at_once -= 1
        return self.says.get(url, "x" * 100)


class Gate(Fetcher):
    """Gives nothing before it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def fetch(self, url: str, share: Share) -> Outcome:
        """Wait for that."""
        self.reached.set()
        await self.open.wait()
        return await super().fetch(url, share)


def places(*urls: str) -> list[Place]:
    """Give them as the parts of one message."""
    return [Place(0, at, "image_url", url) for at, url in enumerate(urls)]


def bench(most: int = 10_000) -> tuple[Fetcher, MemoryBudget, GatheredImages]:
    """Give a fetcher, a budget and the images of one request."""
    fetcher, budget = Fetcher(), MemoryBudget(1 << 20)
    return fetcher, budget, GatheredImages(fetcher, budget, max_bytes=most)


async def test_one_request_takes_few_places() -> None:
    """However many images a request names, others find places too; each URL is asked for once."""
    fetcher, budget, images = bench()
    urls = [f"u{at}" for at in range(MAX_IMAGES)]
    data = await images.gather(places(*urls, *urls), came=0, named=True)
    assert data == dict.fromkeys(urls, "x" * 100)
    assert (sorted(fetcher.asked), fetcher.most) == (sorted(urls), MAX_OF_ONE)
    assert budget.held == 100 * MAX_IMAGES
    images.close()
    assert budget.held == 0
    with pytest.raises(InvalidRequest, match=f"at most {MAX_IMAGES}"):
        await images.gather(places(*urls, "one more"), came=0, named=True)


async def test_a_call_that_still_gathers_when_the_request_is_answered_fails_in_order() -> None:
    """Another call has answered: who fetches in the background is told so, as an error that is no bug."""
    gate, budget = Gate(), MemoryBudget(1 << 20)
    images = GatheredImages(gate, budget, max_bytes=10_000)
    waiting = asyncio.create_task(images.gather(places("a"), came=0, named=True))
    await gate.reached.wait()
    images.close()
    gate.open.set()
    with pytest.raises(ImageUnavailable, match="is answered"):
        await waiting
    assert budget.held == 0


async def test_what_was_fetched_is_not_fetched_again() -> None:
    """Neither for the next model, nor for one that is asked at the same time."""
    fetcher, budget, images = bench()
    both = await asyncio.gather(*(images.gather(places("a", "b"), came=0, named=True) for _ in range(2)))
    assert both[0] == both[1]
    await images.gather(places("b", "c"), came=0, named=True)
    assert sorted(fetcher.asked) == ["a", "b", "c"]
    assert budget.held == 300


@pytest.mark.parametrize(
    ("status", "kind"),
    [(WRONG, InvalidRequest), (UNREACHABLE, ImageUnavailable), (LATE, ImageUnavailable), (NO_ROOM, Overloaded)],
)
async def test_what_failed_fails_again_at_once(status: int, kind: type[GatewayError]) -> None:
    """Its host is not asked a second time for one request; the others are stopped, and hold nothing."""
    fetcher, budget, images = bench()
    fetcher.says["bad"] = Failure(status, "is bad")
    fetcher.hangs = {"slow"}
    errors: list[GatewayError] = []
    for _ in range(2):
        with pytest.raises(GatewayError) as caught:
            await images.gather(places("slow", "bad"), came=0, named=True)
        assert type(caught.value) is kind
        errors.append(caught.value)
    assert errors[0] is not errors[1], "each holds the frames in which it was raised"
    assert (errors[0].status, errors[0].message) == (status, "`messages.0.content.1.image_url` is bad")
    assert errors[0].type == ("invalid_request_error" if status == WRONG else "server_error")
    assert (fetcher.asked.count("bad"), budget.held, fetcher.at_once) == (1, 0, 0)


async def test_a_path_is_told_only_to_who_wrote_it() -> None:
    """On a route with a dialect the paths of the chat request are none of the client's: it is told which image."""
    fetcher, _, images = bench()
    fetcher.says["bad"] = Failure(WRONG, "is bad")
    with pytest.raises(InvalidRequest) as caught:
        await images.gather(places("good", "bad"), came=0, named=False)
    assert (caught.value.message, caught.value.param) == ("image 2 of the request is bad", None)


@pytest.mark.parametrize(("uses", "came", "fits"), [(4, 0, True), (5, 0, False), (3, 101, False), (3, 100, True)])
async def test_a_request_may_not_become_larger_than_one_may_be(uses: int, came: int, fits: bool) -> None:
    """One image in many places counts as often: a small request cannot become a huge one."""
    fetcher, budget, images = bench(400)
    given = places(*["a"] * uses)
    if fits:
        assert await images.gather(given, came=came, named=True) == {"a": "x" * 100}
    else:
        with pytest.raises(RequestTooLarge, match="makes the request larger than 400 bytes"):
            await images.gather(given, came=came, named=True)
    assert fetcher.asked == ["a"]
    images.close()
    assert budget.held == 0


async def test_a_request_that_is_too_large_already_fetches_no_more() -> None:
    """When those that are there are too much, the others are not waited for."""
    fetcher, budget, images = bench(150)
    fetcher.hangs = {"slow"}
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(RequestTooLarge):
            await images.gather(places("a", "b", "slow"), came=0, named=True)
    assert fetcher.at_once == 0
    images.close()
    assert budget.held == 0


async def test_who_is_cancelled_leaves_nothing_behind() -> None:
    """A client that leaves while images come gives back what they hold, those that are there at the end of its ask."""
    fetcher, budget, images = bench()
    fetcher.hangs = {"slow"}
    task = asyncio.create_task(images.gather(places("a", "slow"), came=0, named=True))
    await eventually(lambda: fetcher.asked and fetcher.at_once == 1, what="the slow one alone")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (budget.held, fetcher.at_once) == (100, 0)
    images.close()
    assert budget.held == 0
