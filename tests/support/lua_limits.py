"""The limiter's scripts in a real Redis: as they are, and with a clock that a test holds."""

import hashlib
from collections.abc import Sequence

import redis

from capstan_gateway.limits.encode import Call

CLOCK = "test:clock"
ENDS = "test:ends"


class ScriptRunner:
    """Runs scripts as they are, by their hash; those that Redis does not know any more it is told again."""

    def __init__(self, client: "redis.Redis") -> None:
        self.client = client

    async def __call__(self, call: Call) -> Sequence[int]:
        """Run one. It does not wait: the client is a blocking one."""
        return self.run(self.text_of(call.script), call)

    def text_of(self, script: str) -> str:
        """Give what Redis is told of a script."""
        return script

    def run(self, text: str, call: Call) -> Sequence[int]:
        """Run this text."""
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        arguments: tuple[str | bytes, ...] = (*call.keys, *call.arguments)
        try:
            return self.client.evalsha(sha, len(call.keys), *arguments)  # type: ignore[no-any-return]
        except redis.exceptions.NoScriptError:
            return self.client.eval(text, len(call.keys), *arguments)  # type: ignore[no-any-return]


class HeldClockRunner(ScriptRunner):
    """Runs scripts in the time that it is told, in which also their keys end."""

    def __init__(self, client: "redis.Redis") -> None:
        super().__init__(client)
        self.now = 0

    def text_of(self, script: str) -> str:
        """Give the script with two changes: where its clock is, and who ends its keys."""
        held = script.replace("redis.call('TIME')", f"redis.call('LRANGE', '{CLOCK}', 0, 1)")
        held = held.replace(
            "redis.call('SET', key, value, 'PX', till - now)",
            f"redis.call('SET', key, value) redis.call('ZADD', '{ENDS}', till, key)",
        )
        assert held.count(CLOCK) == held.count(ENDS) == 1
        return held

    def run(self, text: str, call: Call) -> Sequence[int]:
        """Let time pass, then run it."""
        with self.client.pipeline(transaction=False) as pipe:
            pipe.delete(CLOCK)
            pipe.rpush(CLOCK, self.now // 1000, self.now % 1000 * 1000 + 999)
            pipe.zrangebyscore(ENDS, "-inf", self.now)
            ended = pipe.execute()[-1]
        if ended:
            self.client.delete(*ended)
            self.client.zrem(ENDS, *ended)
        return super().run(text, call)
