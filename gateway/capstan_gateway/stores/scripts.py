"""The scripts that change what is stored of one tenant: each runs as a whole, or not at all.

KEYS: a response, the tenant's index, the tenant's sizes. The index is a sorted set of ids by the microsecond in which
they came; the sizes are a hash from id to bytes, whose empty field is the sum. Every key has a time to live.
"""

from typing import Final

_FORGET: Final = """
local function forget(id)
  local size = redis.call('HGET', KEYS[3], id)
  if size then
    redis.call('HDEL', KEYS[3], id)
    redis.call('HINCRBY', KEYS[3], '', -tonumber(size))
  end
  redis.call('ZREM', KEYS[2], id)
end
"""

PUT: Final = (
    _FORGET
    + """
local id, size, response, items = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local ttl, most, most_bytes, prefix = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
local fits = size <= most_bytes and most >= 1

-- First of all what takes memory: a Redis that has none refuses a script's first write only, and this one's as a whole.
if fits then redis.call('HSET', KEYS[1], 'response', response, 'items', items) end

-- A Redis that evicts may have lost the index or the sizes: what cannot be counted goes.
if redis.call('ZCARD', KEYS[2]) ~= math.max(redis.call('HLEN', KEYS[3]) - 1, 0) then
  local known = redis.call('ZRANGE', KEYS[2], 0, -1)
  for _, one in ipairs(redis.call('HKEYS', KEYS[3])) do known[#known + 1] = one end
  for _, one in ipairs(known) do
    if one ~= '' and one ~= id then redis.call('UNLINK', prefix .. one) end
  end
  redis.call('UNLINK', KEYS[2], KEYS[3])
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function drop(old)
  redis.call('UNLINK', prefix .. old)
  forget(old)
end
if fits then
  forget(id)
else
  size = 0
end
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - ttl * 1000))) do
  drop(old)
end
while redis.call('ZCARD', KEYS[2]) > (fits and most - 1 or most)
    or tonumber(redis.call('HGET', KEYS[3], '') or '0') + size > most_bytes do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if not oldest then break end
  drop(oldest)
end
if not fits then return 0 end

-- The clock may have gone back, and two may come in one microsecond: the newest is behind all others all the same.
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
if last and tonumber(last) >= now then now = tonumber(last) + 1 end
redis.call('ZADD', KEYS[2], string.format('%.0f', now), id)
redis.call('HSET', KEYS[3], id, size)
redis.call('HINCRBY', KEYS[3], '', size)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
return 1
"""
)
"""ARGV: id, bytes, response, items, milliseconds to live, most responses, most bytes, prefix of the tenant's keys.

Makes room for the new one: those whose time is over go, then the oldest. Gives 0 when it does not fit at all, and holds
the others to the bounds then, too."""

DELETE: Final = (
    _FORGET
    + """
local gone = redis.call('UNLINK', KEYS[1])
forget(ARGV[1])
return gone
"""
)
"""ARGV: id. Gives how many responses that were: 0 or 1."""
