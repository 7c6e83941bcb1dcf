"""Takes in what replicas share of questions, beside requests: those of all policies, one page after the other."""

import asyncio
from typing import Final, Protocol

POLL_SECONDS: Final = 0.25
"""How often it is asked what is new, where nothing was."""


class Feed(Protocol):
    """The questions of one policy."""

    async def take(self) -> bool:
        """Take in the next page of what others have put; whether there may be more. Raises nothing."""
        ...


class QuestionFeeds:
    """Implements `lifecycle.Part`. Where there is no feed, nothing is done."""

    name = "questions"

    def __init__(self) -> None:
        self._feeds: list[Feed] = []
        self._wanted: Final = asyncio.Event()

    def add(self, feed: Feed) -> None:
        """Take in what is of this one, too."""
        self._feeds.append(feed)
        self._wanted.set()

    def drop(self, feed: Feed) -> None:
        """Take in no more of this one."""
        if feed in self._feeds:
            self._feeds.remove(feed)
        if not self._feeds:
            self._wanted.clear()

    async def run(self) -> None:
        """Do it, for ever."""
        while True:
            await self._wanted.wait()
            more = [await feed.take() for feed in tuple(self._feeds)]
            if not any(more):
                await asyncio.sleep(POLL_SECONDS)

    def not_ready(self) -> str | None:
        """Keep no request away."""
        return None

    async def aclose(self) -> None:
        """Nothing is left to do."""
