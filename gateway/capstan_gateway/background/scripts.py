"""The scripts that change what is known of background responses: each runs as a whole, or not at all.

Who works on a response has a lease of it: a token, and the millisecond until which it holds. Whatever that one writes
is refused once the response has another token, or is over: so it ends once.
"""

from typing import Final

from capstan_gateway.stores.scripts import PUT

_NOW: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
"""
_MINE: Final = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return -1 end
"""

CREATE: Final = f"""
{_NOW}
local id, size, most, most_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ttl, prefix, token, lease = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])
local function taken()
  local sum, known = 0, redis.call('HGETALL', KEYS[2])
  for i = 2, #known, 2 do sum = sum + tonumber(known[i]) end
  return #known / 2, sum
end
local count, sum = taken()
if count >= most or sum + size > most_bytes then
  -- A Redis that evicts may have lost some of them, and time ends those that nobody has ended.
  for _, one in ipairs(redis.call('HKEYS', KEYS[2])) do
    if redis.call('EXISTS', prefix .. one) == 0 then redis.call('HDEL', KEYS[2], one) end
  end
  count, sum = taken()
  if count >= most then return -1 end
  if sum + size > most_bytes then return -2 end
end
redis.call('HSET', KEYS[1], 'status', 'queued', unpack(ARGV, 9))
if token ~= '' then redis.call('HSET', KEYS[1], 'token', token, 'until', now + lease, 'taken', 1) end
redis.call('HSET', KEYS[2], id, size)
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('PEXPIRE', KEYS[2], ttl)
return 1
"""
"""KEYS: the response, the tenant's open ones. ARGV: id, bytes, most responses, most bytes, milliseconds to live,
prefix, token ("": nobody has a lease of it yet), its milliseconds, fields. -1: too many of them; -2: too many bytes."""

ACQUIRE: Final = f"""
{_NOW}
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
if tonumber(redis.call('HGET', KEYS[1], 'until') or '0') > now then return 0 end
if ARGV[3] == '' and redis.call('HEXISTS', KEYS[1], 'token') == 1 then return 0 end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'until', now + tonumber(ARGV[2]))
return redis.call('HINCRBY', KEYS[1], 'taken', 1)
"""
"""ARGV: token, milliseconds, "": only what nobody has, however long ago that one was heard of. -1: it is over; 0:
somebody has it, or it is not to be taken yet; else how often it was taken."""

RENEW: Final = f"""
{_MINE}{_NOW}
redis.call('HSET', KEYS[1], 'until', now + tonumber(ARGV[2]))
return 1
"""
"""ARGV: token, milliseconds. -1: it is lost, or over."""

RELEASE: Final = f"""
{_MINE}{_NOW}
redis.call('HDEL', KEYS[1], 'token')
redis.call('HSET', KEYS[1], 'until', now + tonumber(ARGV[2]), 'waits', ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'unsent', 1) end
redis.call('HINCRBY', KEYS[1], 'taken', -1)
return 1
"""
"""ARGV: token, milliseconds for which nobody is to take it, how often it was to wait, and whether nobody has the
request ("": somebody may). Who gives it back in peace has not failed with it."""

BEGIN: Final = f"""
{_MINE}
redis.call('HSET', KEYS[1], 'status', 'in_progress')
redis.call('HDEL', KEYS[1], 'unsent')
return 1
"""
"""ARGV: token. From now on it may have been sent."""

END: Final = f"""
local token = redis.call('HGET', KEYS[4], 'token')
if ARGV[9] ~= '' and token ~= ARGV[9] then return -1 end
local status = redis.call('HGET', KEYS[4], 'status')
if not status or not string.find(ARGV[10], ',' .. status .. ',', 1, true) then return -1 end
if tonumber(ARGV[2]) > tonumber(ARGV[7]) then return -2 end
-- What takes memory comes behind what gives some back: a Redis that has none refuses a script's first write only.
redis.call('UNLINK', KEYS[4])
redis.call('HDEL', KEYS[5], ARGV[1])
local function put()
{PUT}
end
return put()
"""
"""KEYS: those of `stores.scripts.PUT`, the open response, the tenant's open ones. ARGV: those of PUT, the token ("":
whoever has it), and what the end may follow. -1: it is another one's, over, or not there yet; -2: it is larger than all
of the tenant's may be."""

DROP: Final = """
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('UNLINK', KEYS[1])
"""
"""KEYS: the response, the tenant's open ones. ARGV: id. Gives how many that were."""

LIST: Final = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
"""KEYS: the list of all. ARGV: name, millisecond, most names. 0: there are too many."""

UNLIST: Final = """
return redis.call('HDEL', KEYS[1], ARGV[1])
"""
"""KEYS: the list of all. ARGV: name."""
