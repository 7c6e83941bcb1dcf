"""The limiter's script in a real Redis and the store in memory, in one time that a test tells."""

from collections.abc import Iterable

import redis

from capstan_gateway.limits.memory import MemoryLimitStore
from capstan_gateway.limits.port import Charge, Verdict
from capstan_gateway.limits.shared import SharedLimitStore
from support.limits import Clock, at_once
from support.lua_limits import CLOCK, ENDS, HeldClockRunner
from support.redis_server import RedisServer


class Twins:
    """Both stores in one world, which begins empty."""

    def __init__(self, server: RedisServer) -> None:
        self.client: redis.Redis = server.client()
        self.client.flushall()
        self.clock = Clock()
        self.runner = HeldClockRunner(self.client)
        self.lua = SharedLimitStore(self.runner)
        self.memory = MemoryLimitStore(self.clock)

    def both(self, operation: str, *arguments: object, **options: object) -> Verdict:
        """Ask both, and see that they answer alike."""
        self.runner.now = self.clock.now
        expected = at_once(getattr(self.memory, operation)(*arguments, **options))
        found = at_once(getattr(self.lua, operation)(*arguments, **options))
        assert found == expected
        return found  # type: ignore[no-any-return]

    def look(self, charges: Iterable[Charge]) -> Verdict:
        """See that buckets are alike; it takes nothing of them."""
        nothing = [Charge(one.bucket, 0) for one in charges]
        verdict = self.both("reserve", "look", nothing)
        self.both("settle", "policy", "look", ())
        return verdict

    def ends(self) -> dict[str, int]:
        """Give after how much time each key of the script ends, in milliseconds; -1 for one that never does.

        Those of counts end in the held time; the one that lists leases ends in Redis' own, which tests do not wait for.
        """
        till = dict(self.client.zrange(ENDS, 0, -1, withscores=True))
        keys = set(self.client.keys("*")) - {CLOCK.encode(), ENDS.encode()}
        return {key.decode(): int(till[key]) - self.clock.now if key in till else self.client.pttl(key) for key in keys}

    def left(self) -> set[str]:
        """Give the keys of counts whose held time is not over."""
        return {key.decode() for key, till in self.client.zrange(ENDS, 0, -1, withscores=True) if till > self.clock.now}
