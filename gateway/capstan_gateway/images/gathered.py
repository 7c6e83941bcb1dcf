"""The images of one request: each is fetched once, whichever models are asked, and held until it is answered."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from capstan_gateway.errors import ImageUnavailable, InvalidRequest
from capstan_gateway.images.outcome import TOO_LARGE, Failure, Outcome
from capstan_gateway.images.urls import Place
from capstan_gateway.memory import MemoryBudget, Share

MAX_IMAGES: Final = 16
"""Different URLs in one request."""
MAX_OF_ONE: Final = 4
"""Fetches at once, of one request: a quarter of all places, so that slow hosts of one keep nobody else waiting."""
_CLOSED: Final = "the images are let go of: the request is answered"


class Fetcher(Protocol):
    """Who fetches; `fetch.ImageFetcher` is one."""

    async def fetch(self, url: str, share: Share) -> Outcome:
        """Give the data URL, or why there is none; `share` then holds what that takes."""
        ...


class _Failed(Exception):
    def __init__(self, place: Place, failure: Failure) -> None:
        self.place = place
        self.failure = failure


class GatheredImages:
    """What a request has fetched. What failed is not tried again: the next model would fail of the same."""

    def __init__(self, fetcher: Fetcher, budget: MemoryBudget, *, max_bytes: int) -> None:
        """`max_bytes` are those of the largest request: an image by URL may not make it larger than one inside it."""
        self._fetcher = fetcher
        self._budget = budget
        self._max_bytes = max_bytes
        self._outcomes: dict[str, Outcome] = {}
        self._shares: list[Share] = []
        self._lock = asyncio.Lock()
        self._places = asyncio.Semaphore(MAX_OF_ONE)
        self._closed = False

    def close(self) -> None:
        """Let go of all of it."""
        self._closed = True
        self._outcomes.clear()
        for share in self._shares:
            share.release()
        self._shares.clear()

    async def gather(self, places: Sequence[Place], *, came: int, named: bool) -> dict[str, str]:
        """Give the data URL of each URL. Raises GatewayError for the first that cannot be had.

        `came` is how large the request is without them, in bytes; `named` says that the client itself wrote what the
        paths of `places` lead to. ImageUnavailable also when all was let go of meanwhile: no answer needs it any more.
        """
        wanted = {place.url: place for place in reversed(places)}
        if len(wanted) > MAX_IMAGES:
            raise InvalidRequest(f"at most {MAX_IMAGES} images are fetched for one request", param="messages")
        try:
            async with self._lock:  # Whoever asks for the same at the same time waits for it.
                check = partial(self._check_size, Counter(place.url for place in places), wanted, came)
                for place in wanted.values():
                    self._check(place)
                await self._fetch([place for url, place in wanted.items() if url not in self._outcomes], check)
            check()
            if self._closed:
                raise ImageUnavailable(_CLOSED)
            return {url: text for url in wanted if isinstance(text := self._outcomes[url], str)}
        except _Failed as failed:
            what = failed.place.field if named else f"image {1 + places.index(failed.place)} of the request"
            raise failed.failure.error(what) from None

    async def _fetch(self, places: Sequence[Place], check: Callable[[], None]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for place in places:
                    group.create_task(self._one(place, check))
        except* _Failed as failed:
            raise _first(failed) from None

    async def _one(self, place: Place, check: Callable[[], None]) -> None:
        async with self._places:
            share = self._budget.share()
            try:
                outcome = await self._fetcher.fetch(place.url, share)
                if self._closed:
                    return
                self._outcomes[place.url] = outcome
                if isinstance(outcome, str):
                    self._shares.append(share)
            finally:
                if share not in self._shares:
                    share.release()
        self._check(place)
        check()

    def _check(self, place: Place) -> None:
        """Raise when this one was tried, and failed."""
        outcome = self._outcomes.get(place.url)
        if isinstance(outcome, Failure):
            raise _Failed(place, outcome)

    def _check_size(self, uses: Mapping[str, int], places: Mapping[str, Place], came: int) -> None:
        """Raise when the request is too large with what is there: one image may stand in many places of it."""
        for url, place in places.items():
            outcome = self._outcomes.get(url)
            came += uses[url] * len(outcome) if isinstance(outcome, str) else 0
            if came > self._max_bytes:
                raise _Failed(place, Failure(TOO_LARGE, f"makes the request larger than {self._max_bytes} bytes"))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
