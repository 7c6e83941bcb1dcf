"""Ids of answers as replicas tell each other: many at once, no more than there is room for, in nobody's way."""

import asyncio

import pytest

from capstan_gateway.caches.answered import Of, Told, name_of
from capstan_gateway.caches.port import CacheKey
from capstan_gateway.caches.shared_ids import MOST_WAITING, PREFIX, WAIT_SECONDS, RedisIds
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.wire import Reply
from support.virtualtime import run_virtually

TOLD = Told(CacheKey("0" * 32, "a" * 16, bytes(32)))


class Redis:
    """A store of which the commands are looked at, and which may be away."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, bytes]] = []
        self.is_away = False

    async def call(self, key: str, command: bytes) -> Reply:
        """Take a command."""
        if self.is_away:
            raise StoreDown("away")
        self.commands.append((key, command))
        return b"OK"


def test_what_waits_is_bounded_and_what_is_lost_is_counted() -> None:
    """One that comes again takes no more room; those for which there is none, and those that a Redis which is away does
    not take, are counted; what waits can be read."""
    redis, dropped = Redis(), list[int]()
    ids = RedisIds(redis, on_dropped=dropped.append)  # type: ignore[arg-type]

    async def steps() -> None:
        names = [name_of(Of.REQUEST, str(number), "t") for number in range(MOST_WAITING + 1)]
        working = asyncio.create_task(ids.run())
        for name in (*names, *names[:5]):
            ids.write(name, TOLD)
        assert (sum(dropped), redis.commands) == (1, [])
        assert await ids.read(names[0]) == TOLD
        await asyncio.sleep(WAIT_SECONDS * 2)
        assert [key for key, _ in redis.commands] == [PREFIX + name.digest for name in names[:-1]]
        redis.is_away = True
        ids.write(names[0], TOLD)
        await asyncio.sleep(WAIT_SECONDS * 2)
        assert sum(dropped) == 2
        with pytest.raises(StoreDown):
            await ids.read(names[0])
        redis.is_away = False
        ids.write(names[0], TOLD)
        working.cancel()
        await ids.aclose()
        assert len(redis.commands) == MOST_WAITING + 1

    run_virtually(steps())
