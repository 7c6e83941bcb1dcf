"""The counts of hits by meaning that replicas share, in Redis: two keys in one slot, and one call for each change.

capstan:cache:1:{live:<digest>}           sampled, wrong, off, epoch, at
capstan:cache:1:{live:<digest>}:events    the last wrong hits, by their numbers
"""

import secrets
from collections.abc import Callable
from typing import Final

from capstan_gateway.caches.semantic.ledger import Event, Totals, read_events, written
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Links, Script, run_script

MOST_EVENTS: Final = 10_000
KEPT_SECONDS: Final = 400 * 86_400
"""What nobody has asked for in so long is of no policy any more."""
_ADD: Final = Script("""
local h, e = KEYS[1], KEYS[2]
local sampled, wrong, event, seen, off = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
if off == 'reset' then
  redis.call('DEL', e)
  redis.call('HDEL', h, 'sampled', 'wrong', 'off')
  local now = redis.call('TIME')
  redis.call('HSET', h, 'epoch', string.format('%d', now[1] * 1000 + math.floor(now[2] / 1000)))
elseif off == 'off' then
  redis.call('HSET', h, 'off', 1)
end
if sampled > 0 then redis.call('HINCRBY', h, 'sampled', sampled) end
if wrong > 0 then redis.call('HINCRBY', h, 'wrong', wrong) end
if event ~= '' then
  redis.call('ZADD', e, redis.call('HINCRBY', h, 'at', 1), event)
  redis.call('ZREMRANGEBYRANK', e, 0, -tonumber(ARGV[6]) - 1)
  redis.call('EXPIRE', e, ARGV[7])
end
redis.call('EXPIRE', h, ARGV[7])
local now = redis.call('HMGET', h, 'sampled', 'wrong', 'off', 'epoch', 'at')
local at = tonumber(now[5] or 0)
if seen > at then seen = 0 end
local events = {}
if seen < at then events = redis.call('ZRANGEBYSCORE', e, '(' .. seen, '+inf') end
return {tonumber(now[1] or 0), tonumber(now[2] or 0), tonumber(now[3] or 0), tonumber(now[4] or 0), at, events}
""")


class RedisLedger:
    """Implements `ledger.SharedLedger`."""

    def __init__(self, links: Links, digest: str, *, count: Callable[[str], None] = lambda _: None) -> None:
        """Make it. `digest` says of which policy it is, and of which way of finding hits."""
        self._links = links
        self._keys: Final = (f"capstan:cache:1:{{live:{digest}}}", f"capstan:cache:1:{{live:{digest}}}:events")
        self._count = count
        self._mine: Final = secrets.token_hex(4)

    async def add(self, *, sampled: int, wrong: int, event: Event | None, seen: int) -> Totals | None:
        """Add to what was counted; give all of it, with what others have told since `seen`."""
        # NB: with a number of its own each line is another one; by who wrote it, it is left out of what is read here.
        line = "" if event is None else f"{written(event)} {self._mine} {secrets.token_hex(4)}"
        return await self._call(sampled, wrong, line, seen, "")

    async def turn_off(self, *, seen: int) -> Totals | None:
        """Say to all that the tier is off."""
        return await self._call(0, 0, "", seen, "off")

    async def reset(self, *, seen: int) -> Totals | None:
        """Forget all of it, for all."""
        return await self._call(0, 0, "", seen, "reset")

    async def _call(self, sampled: int, wrong: int, line: str, seen: int, word: str) -> Totals | None:
        arguments = (sampled, wrong, line, seen, word, MOST_EVENTS, KEPT_SECONDS)
        try:
            found = await run_script(self._links, _ADD, self._keys, arguments)
        except StoreDown:
            self._count("failed")
            return None
        if not isinstance(found, list) or len(found) != 6 or not isinstance(found[5], list):
            return None
        *numbers, lines = found
        if not all(isinstance(number, int) for number in numbers):
            return None
        mine = f" {self._mine} ".encode()
        others = [line for line in lines if isinstance(line, bytes) and mine not in line]
        counted, bad, off, epoch, at = (int(str(number)) for number in numbers)
        return Totals(counted, bad, bool(off), epoch, at, read_events(others))
