"""The scripts that change what is known of files and batches: each runs as a whole, or not at all.

Who works on a batch has a lease of it: a token, and the millisecond until which it holds. Whatever that one writes is
refused once the batch has another token, so that two that both believe in their lease cannot both be heard.
"""

from typing import Final

from capstan_gateway.batches.status import ENDS, listed

_NOW: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
"""
_MINE: Final = """
local held = redis.call('HGET', KEYS[1], 'token')
if held ~= ARGV[1] then return -1 end
"""

PUT_FILE: Final = """
local id, record, size, most, most_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local before = redis.call('HGET', KEYS[2], id)
if ARGV[6] == '1' and not before then return -3 end
if KEYS[3] and redis.call('HGET', KEYS[3], 'token') ~= ARGV[7] then return -4 end
local sum = tonumber(redis.call('HGET', KEYS[2], '') or '0') - tonumber(before or '0')
if most >= 0 then
  if not before and redis.call('HLEN', KEYS[1]) >= most then return -1 end
  if sum + size > most_bytes then return -2 end
end
redis.call('HSET', KEYS[1], id, record)
redis.call('HSET', KEYS[2], id, size, '', sum + size)
return 1
"""
"""KEYS: the tenant's files, their sizes, the batch that gives it if one does. ARGV: id, what is known of it, bytes,
most files, most bytes; most files below 0: whatever there is; 1: it must be there; the token of a lease of the batch.
-1: too many files; -2: too many bytes; -3: it is not there; -4: the lease is lost. One that is there is replaced."""

HAS_ROOM: Final = """
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[1]) then return -1 end
if tonumber(redis.call('HGET', KEYS[2], '') or '0') >= tonumber(ARGV[2]) then return -2 end
return 1
"""
"""KEYS: as above. ARGV: most files, most bytes. -1: there are as many files; -2: as many bytes."""

DROP_FILE: Final = """
local size = redis.call('HGET', KEYS[2], ARGV[1])
local gone = redis.call('HDEL', KEYS[1], ARGV[1])
if size then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HSET', KEYS[2], '', tonumber(redis.call('HGET', KEYS[2], '') or '0') - tonumber(size))
end
return gone
"""
"""KEYS: as above. ARGV: id. Gives how many files that were."""

SET_FIELD: Final = """
if tonumber(ARGV[3]) > 0 and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0
    and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
"""ARGV: field, value, most fields (0: any number). 0: there are too many."""

CHANGE_FIELD: Final = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
"""ARGV: field, value. 0: there is none."""

DROP_FIELD: Final = """
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
"""
"""ARGV: field, the value that it must have for that ("": any)."""

CREATE: Final = f"""
local id, spec, created, most, ttl, prefix = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local left = redis.call('HLEN', KEYS[2])
if left >= most then
  local all = redis.call('HGETALL', KEYS[2])
  local old = {{}}
  for i = 1, #all, 2 do old[#old + 1] = {{all[i], tonumber(all[i + 1])}} end
  table.sort(old, function(a, b) return a[2] < b[2] end)
  for _, one in ipairs(old) do
    if left < most then break end
    local status = redis.call('HGET', prefix .. 'b:' .. one[1], 'status')
    if not status or string.find('{listed(ENDS)}', ',' .. status .. ',', 1, true) then
      redis.call('UNLINK', prefix .. 'b:' .. one[1])
      redis.call('HDEL', KEYS[2], one[1])
      left = left - 1
    end
  end
  if left >= most then return 0 end
end
redis.call('HSET', KEYS[1], 'spec', spec, 'status', 'validating')
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('HSET', KEYS[2], id, created)
return 1
"""
"""KEYS: the batch, the tenant's index. ARGV: id, spec, its second, most batches, milliseconds to live, prefix. Those
that are over make room, the oldest first; 0: none of them is."""

DROP_BATCH: Final = f"""
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return -1 end
if not string.find('{listed(ENDS)}', ',' .. status .. ',', 1, true) then return 0 end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('UNLINK', KEYS[1], KEYS[2])
return 1
"""
"""KEYS: the batch, its answers, the tenant's index. ARGV: id. -1: there is none; 0: it is not over."""

ACQUIRE: Final = f"""
{_NOW}
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return -2 end
if string.find('{listed(ENDS)}', ',' .. status .. ',', 1, true) then return -1 end
if tonumber(redis.call('HGET', KEYS[1], 'until') or '0') > now then return 0 end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'until', now + tonumber(ARGV[2]))
return redis.call('HINCRBY', KEYS[1], 'taken', 1)
"""
"""ARGV: token, milliseconds. -2: there is none; -1: it is over; 0: somebody has it; else how often it was taken since a
line was done."""

RENEW: Final = f"""
{_MINE}{_NOW}
redis.call('HSET', KEYS[1], 'until', now + tonumber(ARGV[2]))
return redis.call('HGET', KEYS[1], 'status') == 'cancelling' and 2 or 1
"""
"""ARGV: token, milliseconds. -1: it is lost; 2: it is to be cancelled."""

RELEASE: Final = f"""
{_MINE}
redis.call('HDEL', KEYS[1], 'token', 'until')
if tonumber(redis.call('HGET', KEYS[1], 'taken') or '0') > 0 then redis.call('HINCRBY', KEYS[1], 'taken', -1) end
return 1
"""
"""ARGV: token. Who gives it back in peace has not failed with it."""

MOVE: Final = f"""
{_MINE}
local to, at, before, ttl = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local status = redis.call('HGET', KEYS[1], 'status')
if not string.find(before, ',' .. status .. ',', 1, true) then return 0 end
redis.call('HSET', KEYS[1], 'status', to, to .. '_at', at, unpack(ARGV, 6))
if ttl ~= '' then
  redis.call('HDEL', KEYS[1], 'token', 'until', 'done', 'output', 'error')
  redis.call('PEXPIRE', KEYS[1], ttl)
end
return 1
"""
"""ARGV: token, status, second, what it may follow, milliseconds to live from now on ("": it is not over), fields. 0: it
may not follow what there is by now."""

CANCEL: Final = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return -1 end
if status == 'cancelling' then return 2 end
if not string.find(ARGV[2], ',' .. status .. ',', 1, true) then return 0 end
redis.call('HSET', KEYS[1], 'status', 'cancelling', 'cancelling_at', ARGV[1])
return 1
"""
"""ARGV: second, what it may follow. -1: there is none; 0: it is over."""

RECORD: Final = f"""
{_MINE}
if redis.call('HEXISTS', KEYS[2], ARGV[6]) == 1 then return 0 end
if redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3]) == 0 then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('HINCRBY', KEYS[1], ARGV[4], 1)
redis.call('HSET', KEYS[1], 'taken', 0)
return 1
"""
"""KEYS: the batch, its answers. ARGV: token, field, line, which count grows, milliseconds to live, the field that
it would have in the other file. 0: the line has an answer, in this file or in that one."""

KEEP: Final = f"""
{_MINE}
if redis.call('HEXISTS', KEYS[2], ARGV[6]) == 1 or redis.call('HEXISTS', KEYS[2], ARGV[7]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'done', ARGV[2], 'output', ARGV[3], 'error', ARGV[4], 'taken', 0)
redis.call('HINCRBY', KEYS[1], ARGV[5], 1)
return 1
"""
"""KEYS: as above. ARGV: token, the lines done, the objects of both files, which count grows, the fields that the line
may have. 0: it has an answer."""

FLUSH: Final = f"""
{_MINE}
redis.call('HSET', KEYS[1], 'done', ARGV[2], 'output', ARGV[3], 'error', ARGV[4])
for i = 5, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
return 1
"""
"""KEYS: as above. ARGV: token, the lines done, the objects of both files, the fields that are in those now."""
