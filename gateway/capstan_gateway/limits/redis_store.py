"""The scripts of `encode` on the wire to Redis, and how gateways know of each other."""

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Final

from capstan_gateway.limits.encode import Call
from capstan_gateway.limits.port import StoreDown
from capstan_gateway.limits.shared import SharedLimitStore
from capstan_gateway.stores import port
from capstan_gateway.stores.scripted import Links, Script, run_script
from capstan_gateway.stores.wire import Refused, Reply

ALIVE_MS: Final = 15_000
"""A gateway that has not been heard of for so long does not share the limits any more."""
GATEWAYS: Final = "capstan:gateways"
PULSE: Final = Script("""
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
-- Those of a clock that has gone back since would stay for ever.
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + tonumber(ARGV[2])), '+inf')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
""")
"""ARGV: who is alive, milliseconds. Gives how many are. It writes, so that it fails where counts would."""
LEAVE: Final = Script("return redis.call('ZREM', KEYS[1], ARGV[1])")

OnCall = Callable[[str, str], object]


def limit_store(links: Links, on_call: OnCall) -> SharedLimitStore:
    """Make the store whose counts all gateways share. `on_call` hears what was called, and what came of it."""

    async def run(call: Call) -> Sequence[int]:
        reply: Sequence[int] = await _noted(
            "limit", run_script(links, _script(call.script), call.keys, call.arguments), on_call
        )
        return reply

    return SharedLimitStore(run)


class Pulse:
    """Tells Redis that this gateway is alive."""

    def __init__(self, links: Links, name: str, on_call: OnCall) -> None:
        """`name` is nobody else's."""
        self._links, self._name, self._on_call = links, name, on_call

    async def beat(self) -> int:
        """Say so, and give how many gateways are. Raises StoreDown."""
        run = run_script(self._links, PULSE, (GATEWAYS,), (self._name, ALIVE_MS))
        return int(await _noted("pulse", run, self._on_call))

    async def leave(self) -> None:
        """Say that it ends. Raises StoreDown."""
        await _noted("pulse", run_script(self._links, LEAVE, (GATEWAYS,), (self._name,)), self._on_call)


async def _noted(call: str, work: Awaitable[Reply], on_call: OnCall) -> Reply:
    try:
        reply = await work
    except Refused as error:
        on_call(call, "refused")
        raise StoreDown(f"Redis refused: {error.kind}") from error
    except port.StoreDown as error:
        on_call(call, "failed")
        raise StoreDown(str(error)) from error
    on_call(call, "answered")
    return reply


@lru_cache(16)
def _script(text: str) -> Script:
    return Script(text)
