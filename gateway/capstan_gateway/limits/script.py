"""The same as `turn.py` does, in Lua, so that it runs in Redis as one step of its own.

KEYS: the leases of the group (a sorted set of ids by the end of their leases), then reservations, then buckets. All of
them begin with the prefix that ends in the group's hash tag: a Redis Cluster keeps them together. What a reservation of
another call has of further buckets is found by that prefix, in the same slot.

    capstan:l1:{tag}:l           the leases
    capstan:l1:{tag}:i:ID        a reservation: state, until, lease, keeps, and twelve fields for each of its buckets
    capstan:l1:{tag}:KIND:KEY    a bucket: see the counts

Values are MessagePack, which Redis' own library reads and writes at once. Another form of them needs another prefix.
Every value has a time to live. Time is that of the server. Numbers are whole and below 2^53, so that a double is exact.

Redis that is out of memory refuses a script by its first write, and only if that needs memory: an admission writes its
reservation first of all, and is refused as a whole; settling and renewing begin with what needs none, and go on.

Scripts by their hash, and not a Function: those need rights that users of a shared Redis often lack, live in the
database, and would be another thing to be brought up to date while gateways of two releases run.
"""

from typing import Final

from capstan_gateway.limits.script_counts import COUNTS
from capstan_gateway.limits.script_reservations import RESERVATIONS

PREFIX: Final = "capstan:l1:"
HOLD: Final = (
    COUNTS
    + RESERVATIONS
    + """
local id, extends, lease, keeps, force = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local size, cut = #KEYS - 2, #PREFIX + 1
local values = redis.call('MGET', unpack(KEYS, 2))
local names, kinds, amounts, used, terms, at = {}, {}, {}, {}, {}, 6
for i = 1, size do
  local name, numbers, n = string.sub(KEYS[i + 2], cut), {}, tonumber(ARGV[at + 3])
  for j = 1, n do numbers[j] = tonumber(ARGV[at + 3 + j]) end
  names[i], kinds[i], terms[i] = name, tonumber(ARGV[at]), numbers
  amounts[i], used[i] = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  found[name] = values[i + 1]
  at = at + 4 + n
end

local dead = reap()
local r = dead[id] or read(values[1])

local function load_wish(name, kind, t)
  local raw, c = found[name], counts[name]
  -- What was given back a moment ago went by the rule of a reservation.
  if c then raw = stored(c) end
  if kind == RATE then
    if c and c.gain == t[1] and c.unit == t[2] and c.tick_ms == t[3] and c.full == t[4] then return c end
    c = rate(raw, t[1], t[2], t[3], t[4])
  elseif kind == QUOTA then
    local starts = {}
    for i = 2, #t do starts[i - 1] = t[i] end
    c = quota(raw, t[1], starts)
  else
    c = slots(raw, t[1])
  end
  counts[name] = c
  return c
end

local held = {}
for i = 1, size do held[i] = load_wish(names[i], kinds[i], terms[i]) end

local function answer(outcome, denied, wait)
  local reply = {outcome, denied, wait}
  for i = 1, size do reply[2 + 2 * i], reply[3 + 2 * i] = standing(held[i]) end
  return reply
end

if r and r[1] == 0 and not extends then
  for i = 1, size do
    if r[2 + i] and r[2 + i] > 0 and kinds[i] ~= SLOTS then
      take(held[i], r[2 + i])
      changed[names[i]] = true
    end
  end
  write(id, {0, r[2]})
  finish(dead)
  return answer(ADMITTED, -1, 0)
end
local anew, lost = not r or r[1] == 2, not r or r[1] == 0 or #r ~= HEAD + size * WIDTH or (r[1] == 2 and r[4] == 1)
for i = 1, size do
  if not lost and r[HEAD + (i - 1) * WIDTH + NAME] ~= names[i] then lost = true end
end
if not r and not extends then
  r = {2, 0, lease, keeps}
  for i = 1, size do
    local base = HEAD + (i - 1) * WIDTH
    r[base + NAME], r[base + KIND] = names[i], kinds[i]
    for field = X, NEW_MARK do r[base + field] = 0 end
  end
elseif lost then
  finish(dead)
  return answer(LOST, -1, 0)
end

local need, short, spent, wait, denied, longest = {}, false, false, 0, 0, 0
for i = 1, size do
  need[i] = needs(r, HEAD + (i - 1) * WIDTH, amounts[i])
  local time = wait_for(held[i], need[i])
  if time < 0 and not force then
    finish(dead)
    return answer(NEVER, i - 1, 0)
  elseif time > 0 then
    wait = max(wait, time)
    -- One that is spent decides before all that are only to be waited for.
    if held[i].kind == QUOTA and not spent then spent, longest = true, 0 end
    if time > longest and (held[i].kind == QUOTA or not spent) then longest, denied = time, i - 1 end
  end
end
if wait > 0 and not force then
  finish(dead)
  return answer(spent and SPENT or WAIT, denied, wait)
end

for i = 1, size do
  local line = HEAD + (i - 1) * WIDTH
  note_used(r, line, held[i], used[i])
  take_line(r, line, held[i], need[i])
  changed[names[i]] = true
end
dead[id] = nil
open(id, r, anew)
finish(dead)
return answer(ADMITTED, -1, 0)
"""
)
"""Reserve, or extend.

KEYS: leases, reservation, buckets. ARGV: id, 1 to extend, lease, 1 if it keeps, 1 by force, and for each bucket its
kind, the amount in all, what was used, and how many numbers follow: of a Rate its pace (what comes in, small units of a
unit, length of a tick, small units when full), of a Quota the limit and the beginnings of periods, of Slots the limit.
Gives outcome, position of the charge that decided, wait, and of each bucket what remains and when it is full."""

SETTLE: Final = (
    COUNTS
    + RESERVATIONS
    + """
local id = ARGV[1]
local r = read(redis.call('GET', KEYS[2]))
if not r or r[1] ~= 0 then
  redis.call('ZREM', KEYS[1], id)
  local settled = {0, now + SETTLED}
  if r then
    local i = 2
    for at = HEAD, #r - 1, WIDTH do
      local final = r[at + KIND] ~= SLOTS and tonumber(ARGV[i]) or 0
      if ahead(r, at) or final ~= r[at + AMOUNT] then come_to(r, at, load_line(r, at), final) end
      i = i + 1
    end
  else
    for i = 2, #ARGV do settled[i + 1] = tonumber(ARGV[i]) end
  end
  write(id, settled)
end
finish(reap())
return {}
"""
)
"""KEYS: leases, reservation. ARGV: id, and what was used of each bucket."""

RENEW: Final = (
    COUNTS
    + RESERVATIONS
    + """
-- A write that needs no memory, so that those behind it may have some: no id is empty.
redis.call('ZREM', KEYS[1], '')
local lease, values, at = tonumber(ARGV[1]), redis.call('MGET', unpack(KEYS, 2)), 2
for i = 1, #KEYS - 1 do
  local id, n, r = ARGV[at], tonumber(ARGV[at + 1]), read(values[i])
  if r and r[1] ~= 0 then
    r[3] = lease
    local place = 1
    for line = HEAD, #r - 1, WIDTH do
      local used, missing = place <= n and tonumber(ARGV[at + 1 + place]) or 0, needs(r, line, 0)
      if is_held(r, line) or missing > 0 then
        local c = load_line(r, line)
        if ahead(r, line) then
          give(c, r[line + NEW], r[line + NEW_MARK])
          hold(c, r[line + NEW])
          r[line + OLD], r[line + NEW] = r[line + OLD] + r[line + NEW], 0
        end
        note_used(r, line, c, used)
        take_line(r, line, c, needs(r, line, 0))
      else
        r[line + USED] = max(r[line + USED], used)
      end
      place = place + 1
    end
    open(id, r, true)
  end
  at = at + 2 + n
end
finish(reap())
return {}
"""
)
"""KEYS: leases, reservations. ARGV: lease, and for each reservation its id, how many numbers follow, and what was used
of each of its buckets."""
