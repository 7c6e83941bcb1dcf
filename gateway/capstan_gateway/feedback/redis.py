"""What was said of answers, kept in Redis for all replicas, and which answers they gave.

    capstan:{feedback}:1:said           hash: digest of tenant and id -> what was said, with its place
    capstan:{feedback}:1:order          hash: place -> digest; `first` and `last` are the places that there are
    capstan:{feedback}:1:arm:<digest>   hash for each experiment: what was said of each arm, added up
    capstan:{given}:1:0 to 7, :at       a ring of hashes: digest of tenant and id -> what is known of an answer

What was said holds the words of clients, and expires. No prompt, no answer and no user is in any of them.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

import orjson

from capstan_contract.feedback import WHOLE, Feedback, read_feedback
from capstan_contract.tracks import BUCKETS, Counters, Measure, Quantity
from capstan_gateway.feedback.given import Answered, Name, read_answered
from capstan_gateway.feedback.port import Page, Put
from capstan_gateway.stores.port import KeyStore

SAID: Final = "capstan:{feedback}:1:said"
ORDER: Final = "capstan:{feedback}:1:order"
ARM: Final = "capstan:{feedback}:1:arm:"
GIVEN: Final = "capstan:{given}:1:"
RING: Final = 8
"""Hashes of answers: the oldest one goes as a whole, so that at least 7/8 of what may be known is."""
ARM_SECONDS: Final = 90 * 86400
"""How long what was said of an experiment's arms stays added up, after the last time."""
_AT_ONCE: Final = 500
"""Places that one operation reads."""
_OUTCOMES: Final = (Put.NEW, Put.CHANGED, Put.SAME)

PUT: Final = """
-- KEYS: said, order, then a hash for each arm. ARGV: digest, what is said as JSON without its place, seconds, most,
-- seconds of arms, milliseconds now, then member and bucket of each arm.
local digest, now = ARGV[1], tonumber(ARGV[6])
local new = cjson.decode(ARGV[2])
local found, old = redis.call('HGET', KEYS[1], digest), nil
if found then old = cjson.decode(found) end
if old and now - old.at >= tonumber(ARGV[3]) * 1000 then old = nil end
if old and old.millis == new.millis and old.comment == new.comment and old.source == new.source then return 2 end

-- An answer is counted in the arms in which it was spoken of first, whoever has given it again out of a cache.
local arms = {}
for place = 3, #KEYS do
  arms[place - 2] = {KEYS[place], ARGV[7 + (place - 3) * 2] .. '|' .. ARGV[8 + (place - 3) * 2]}
end
if old then arms, new.arms = old.counted or {}, old.arms end
new.counted = arms

-- First of all what takes memory: a Redis that has none refuses a script's first write only.
local last = redis.call('HINCRBY', KEYS[2], 'last', 1)
if found then
  local place = cjson.decode(found).place
  if place then redis.call('HDEL', KEYS[2], place) end
end
new.place = last
redis.call('HSET', KEYS[1], digest, cjson.encode(new))
redis.call('HSET', KEYS[2], last, digest)

local first = tonumber(redis.call('HGET', KEYS[2], 'first') or '1')
local steps = 0
while first < last and steps < 1000 do
  local one = redis.call('HGET', KEYS[2], first)
  if one then
    local kept = redis.call('HGET', KEYS[1], one)
    local fits = redis.call('HLEN', KEYS[1]) <= tonumber(ARGV[4])
    if kept and fits and now - cjson.decode(kept).at < tonumber(ARGV[3]) * 1000 then break end
    redis.call('HDEL', KEYS[1], one)
    redis.call('HDEL', KEYS[2], first)
  end
  first, steps = first + 1, steps + 1
end
redis.call('HSET', KEYS[2], 'first', first)
redis.call('PEXPIRE', KEYS[1], ARGV[3] * 1000)
redis.call('PEXPIRE', KEYS[2], ARGV[3] * 1000)

for _, arm in ipairs(arms) do
  local key, name = arm[1], arm[2]
  if old and redis.call('HEXISTS', key, name .. '|count') == 1 then
    redis.call('HINCRBY', key, name .. '|sum', new.millis - old.millis)
    redis.call('HINCRBY', key, name .. '|squares', new.millis * new.millis - old.millis * old.millis)
  elseif not old then
    redis.call('HINCRBY', key, name .. '|count', 1)
    redis.call('HINCRBY', key, name .. '|sum', new.millis)
    redis.call('HINCRBY', key, name .. '|squares', new.millis * new.millis)
  end
  redis.call('PEXPIRE', key, ARGV[5] * 1000)
end
return old and 1 or 0
"""

NOTE: Final = """
-- KEYS: which hash of the ring is written, then the ring. ARGV: seconds, most of one hash, then names with values.
local at = tonumber(redis.call('HGET', KEYS[1], 'at') or '0')
if redis.call('HLEN', KEYS[at + 2]) >= tonumber(ARGV[2]) then
  at = (at + 1) % (#KEYS - 1)
  redis.call('UNLINK', KEYS[at + 2])
end
redis.call('HSET', KEYS[1], 'at', at)
redis.call('PEXPIRE', KEYS[1], ARGV[1] * 1000)
for place = 3, #ARGV, 2 do redis.call('HSET', KEYS[at + 2], ARGV[place], ARGV[place + 1]) end
redis.call('PEXPIRE', KEYS[at + 2], ARGV[1] * 1000)
return at
"""


class RedisFeedback:
    """Implements `port.FeedbackStore`."""

    source = "redis"

    def __init__(self, store: KeyStore, *, most: int, seconds: int, now_ms: Callable[[], int]) -> None:
        self._store: Final = store
        self._most: Final = most
        self._seconds: Final = seconds
        self._now_ms: Final = now_ms

    async def put(self, name: Name, said: Feedback) -> Put:
        """Keep it. Raises StoreDown."""
        document = {**said.model_dump(mode="json"), "millis": round(said.score * WHOLE), "comment": said.comment}
        arms: list[str | int] = [word for arm in said.arms for word in (arm.member, arm.bucket)]
        outcome = await self._store.run_script(
            PUT,
            [SAID, ORDER, *(arm_key(arm.key, arm.epoch) for arm in said.arms)],
            [name.digest, orjson.dumps(document), self._seconds, self._most, ARM_SECONDS, self._now_ms(), *arms],
        )
        return _OUTCOMES[outcome]

    async def page(self, after: int, limit: int) -> Page:
        """Give a page. Raises StoreDown."""
        first, last = (int(one or 0) for one in await self._store.read(ORDER, ["first", "last"]))
        found: list[tuple[int, Feedback]] = []
        place = max(after + 1, first)
        while place <= last and len(found) <= limit:
            places = range(place, min(place + _AT_ONCE, last + 1))
            found += await self._of(places)
            place = places.stop
        data = tuple(one for _, one in found[:limit])
        return Page(data, found[limit - 1][0] if len(found) > limit else None)

    async def _of(self, places: Sequence[int]) -> list[tuple[int, Feedback]]:
        digests = await self._store.read(ORDER, [str(place) for place in places])
        known = [(place, one.decode()) for place, one in zip(places, digests, strict=True) if one is not None]
        if not known:
            return []
        texts = await self._store.read(SAID, [digest for _, digest in known])
        oldest = self._now_ms() - self._seconds * 1000
        found = []
        for (place, _), text in zip(known, texts, strict=True):
            said = None if text is None else read_said(text)
            if said is not None and said.at >= oldest:
                found.append((place, said))
        return found

    async def arms(self, key: str, epoch: str) -> Mapping[str, Counters]:
        """Give what was said of the answers of each arm. Raises StoreDown."""
        return read_arms(await self._store.read_all(arm_key(key, epoch)))


def arm_key(key: str, epoch: str) -> str:
    """Give the name of what is added up of an experiment."""
    return ARM + blake2b(f"{key}\0{epoch}".encode(), digest_size=16).hexdigest()


def read_said(text: bytes) -> Feedback | None:
    """Read what was kept; None where it is none of ours."""
    try:
        return read_feedback(orjson.loads(text))
    except orjson.JSONDecodeError:
        return None


def read_arms(fields: Mapping[bytes, bytes]) -> dict[str, Counters]:
    """Read what is added up of the arms of an experiment; what is none of ours is passed over."""
    sums: dict[str, dict[int, dict[str, int]]] = {}
    for field, value in fields.items():
        name, _, what = field.decode("utf-8", "replace").rpartition("|")
        member, _, bucket = name.rpartition("|")
        if what in ("count", "sum", "squares") and bucket.isdecimal() and int(bucket) < BUCKETS:
            sums.setdefault(member, {}).setdefault(int(bucket), {})[what] = max(0, int(value))
    return {member: Counters(measures={Quantity.FEEDBACK: _measure(buckets)}) for member, buckets in sums.items()}


def _measure(buckets: Mapping[int, Mapping[str, int]]) -> Measure:
    ordered = sorted(buckets.items())
    return Measure(
        count=sum(one.get("count", 0) for _, one in ordered),
        sum=sum(one.get("sum", 0) for _, one in ordered),
        squares=sum(one.get("squares", 0) for _, one in ordered),
        buckets=tuple((bucket, one.get("count", 0), one.get("sum", 0)) for bucket, one in ordered),
    )


class SharedGiven:
    """Which answers all replicas gave."""

    def __init__(self, store: KeyStore, *, most: int, seconds: int) -> None:
        self._store: Final = store
        self._each: Final = max(1, most // RING)
        self._seconds: Final = seconds

    async def write(self, batch: list[tuple[Name, Answered]]) -> None:
        """Have all replicas know these. Raises StoreDown."""
        words: list[bytes | str | int] = [self._seconds, self._each]
        for name, answered in batch:
            words += (name.digest, answered.write())
        await self._store.run_script(NOTE, [f"{GIVEN}at", *ring()], words)

    async def find(self, name: Name) -> Answered | None:
        """Give what any replica knows of an answer: the newest, where there are several. Raises StoreDown."""
        digest = name.digest
        found = await asyncio.gather(*(self._store.read(key, [digest]) for key in ring()))
        known = [one for (text,) in found if text is not None and (one := read_answered(text)) is not None]
        return max(known, key=lambda one: one.at, default=None)


def ring() -> list[str]:
    """Give the names of the hashes of answers."""
    return [f"{GIVEN}{place}" for place in range(RING)]
