"""Who takes in what replicas share of questions."""

import asyncio

import pytest

from capstan_gateway.caches.semantic import feeding
from capstan_gateway.caches.semantic.feeding import QuestionFeeds
from support.wait import eventually


class Pages:
    """A feed of so many pages."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.asked = 0

    async def take(self) -> bool:
        """Take one."""
        self.asked += 1
        self.left = max(self.left - 1, 0)
        return self.left > 0


async def test_all_feeds_are_taken_in_and_none_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is comes page after page without a pause; after that each is asked now and then; one that is dropped
    is not asked any more."""
    monkeypatch.setattr(feeding, "POLL_SECONDS", 0.01)
    feeds = QuestionFeeds()
    running = asyncio.create_task(feeds.run())
    long, short = Pages(30), Pages(1)
    feeds.add(long)
    feeds.add(short)
    await eventually(lambda: long.left == 0)
    feeds.drop(long)
    feeds.drop(long)
    await asyncio.sleep(0)
    before = long.asked
    await eventually(lambda: short.asked > 35)
    assert long.asked <= before + 1
    feeds.drop(short)
    late = Pages(1)
    feeds.add(late)
    await eventually(lambda: late.asked > 2)
    running.cancel()
    assert feeds.not_ready() is None
    await feeds.aclose()
