"""The same as `turn.py` does, in Lua, so that it runs in Redis as one step of its own.

KEYS: the leases of the group (a sorted set of ids by the end of their leases), then reservations, then buckets. All of
them begin with the prefix that ends in the group's hash tag: a Redis Cluster keeps them together. What a reservation of
another call has of further buckets is found by that prefix, in the same slot.

    capstan:l1:{tag}:l           the leases
    capstan:l1:{tag}:i:ID        a reservation: state, until, lease, keeps, and twelve fields for each of its buckets
    capstan:l1:{tag}:KIND:KEY    a bucket: see the counts

Numbers are doubles in a row, wherever nothing else is among them: libraries of Redis' own read and write those at once,
and MessagePack for a reservation. Another form of what is stored needs another prefix.
Every value has a time to live. Time is that of the server. Numbers are whole and below 2^53, so that a double is exact.

Redis that is out of memory refuses a script by its first write, and only if that needs memory: an admission writes its
reservation first of all, and is refused as a whole; settling and renewing begin with what needs none, and go on.

Scripts by their hash, and not a Function: those need rights that users of a shared Redis often lack, live in the
database, and would be another thing to be brought up to date while gateways of two releases run.
"""

import re
from typing import Final

from capstan_gateway.limits.counts import ASK_AGAIN_MS, BACK_MS, MOST_DEBT, MOST_LOWS, PARTS
from capstan_gateway.limits.port import LEASE_MS, Outcome
from capstan_gateway.limits.reservations import ENDED_MS, MOST_LEASE_MS, MOST_REAPED, SETTLED_MS, Kind
from capstan_gateway.limits.script_counts import COUNTS
from capstan_gateway.limits.script_reservations import RESERVATIONS

PREFIX: Final = "capstan:l1:"
OUTCOMES: Final = (Outcome.ADMITTED, Outcome.WAIT, Outcome.SPENT, Outcome.NEVER, Outcome.LOST)
"""In the order of the numbers by which the scripts say them."""
_NUMBERS: Final = {
    "BACK": BACK_MS, "MOST_DEBT": MOST_DEBT, "MOST_LOWS": MOST_LOWS, "PARTS": PARTS, "ASK_AGAIN": ASK_AGAIN_MS,
    "ENDED": ENDED_MS, "SETTLED": SETTLED_MS, "LEASE": LEASE_MS, "MOST_LEASE": MOST_LEASE_MS,
    "MOST_REAPED": MOST_REAPED, "RATE": Kind.RATE, "QUOTA": Kind.QUOTA, "SLOTS": Kind.SLOTS,
    **{name: OUTCOMES.index(Outcome[name]) for name in ("ADMITTED", "WAIT", "SPENT", "NEVER", "LOST")},
    # A reservation begins with so many fields, and has so many for each bucket, in this order.
    "HEAD": 4, "WIDTH": 12, "NAME": 1, "KIND": 2, "X": 3, "Y": 4, "Z": 5, "PROMISED": 6, "AMOUNT": 7, "USED": 8,
    "OLD": 9, "OLD_MARK": 10, "NEW": 11, "NEW_MARK": 12,
}  # fmt: skip


def _script(text: str) -> str:
    """Put numbers in place of their names, which Lua would have to look up."""
    names = "|".join(_NUMBERS)
    return re.sub(rf"\b({names})\b", lambda found: str(int(_NUMBERS[found[0]])), COUNTS + RESERVATIONS + text)


HOLD: Final = _script(
    """
local a = asked(ARGV[1])
local extends, lease, keeps, force = a[1] == 1, a[2], a[3], a[4] == 1
local id, size, cut = sub(KEYS[2], #prefix + 3), #KEYS - 2, #prefix + 1
local values = redis.call('MGET', unpack(KEYS, 2))
for i = 1, size do found[sub(KEYS[i + 2], cut)] = values[i + 1] end
local dead = reap()
local r = dead[id] or read(values[1])

local names, kinds, amounts, used, held, at = {}, {}, {}, {}, {}, 5
for i = 1, size do
  local name, kind, n, first = sub(KEYS[i + 2], cut), a[at], a[at + 3], a[at + 4]
  local raw, c = found[name], counts[name]
  -- What was given back a moment ago went by the rule of a reservation.
  if c then raw = stored(c) end
  if kind == SLOTS then
    c = slots(raw, first)
  elseif kind == QUOTA then
    local starts = {}
    for j = 2, n do starts[j - 1] = a[at + 3 + j] end
    c = quota(raw, first, starts)
  elseif not (c and c.gain == first and c.unit == a[at + 5] and c.tick_ms == a[at + 6] and c.full == a[at + 7]) then
    c = rate(raw, first, a[at + 5], a[at + 6], a[at + 7])
  end
  counts[name], held[i] = c, c
  names[i], kinds[i], amounts[i], used[i] = name, kind, a[at + 1], a[at + 2]
  at = at + 4 + n
end

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
  r = asked(string.rep('\\0', 8 * (HEAD + size * WIDTH)))
  r[1], r[3], r[4] = 2, lease, keeps
  for i = 1, size do
    local base = HEAD + (i - 1) * WIDTH
    r[base + NAME], r[base + KIND] = names[i], kinds[i]
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

KEYS: leases, reservation, buckets. ARGV: numbers: 1 to extend, lease, 1 if it keeps, 1 by force, and for each bucket
its kind, the amount in all, what was used, and how many numbers follow: of a Rate its pace (what comes in, small units
of a unit, length of a tick, small units when full), of a Quota the limit and the beginnings of periods, of Slots the
limit. Gives outcome, position of the charge that decided, wait, and of each bucket what remains and when it is full."""

SETTLE: Final = _script(
    """
local id, used = sub(KEYS[2], #prefix + 3), asked(ARGV[1])
local r = read(redis.call('GET', KEYS[2]))
if not r or r[1] ~= 0 then
  redis.call('ZREM', KEYS[1], id)
  local settled = {0, now + SETTLED}
  if r then
    local i = 1
    for at = HEAD, #r - 1, WIDTH do
      local final = r[at + KIND] ~= SLOTS and used[i] or 0
      if ahead(r, at) or final ~= r[at + AMOUNT] then come_to(r, at, load_line(r, at), final) end
      i = i + 1
    end
  else
    for i = 1, #used do settled[i + 2] = used[i] end
  end
  write(id, settled)
end
mend()
finish(reap())
return {}
"""
)
"""KEYS: leases, reservation. ARGV: numbers: what was used of each bucket."""

RENEW: Final = _script(
    """
-- A write that needs no memory, so that those behind it may have some: no id is empty.
redis.call('ZREM', KEYS[1], '')
local a, values, at = asked(ARGV[1]), redis.call('MGET', unpack(KEYS, 2)), 2
for i = 1, #KEYS - 1 do
  local id, n, r = sub(KEYS[i + 1], #prefix + 3), a[at], read(values[i])
  if r and r[1] ~= 0 then
    r[3] = a[1]
    local place = 1
    for line = HEAD, #r - 1, WIDTH do
      local used, missing = place <= n and a[at + place] or 0, needs(r, line, 0)
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
  at = at + 1 + n
end
mend()
finish(reap())
return {}
"""
)
"""KEYS: leases, reservations. ARGV: numbers: lease, and for each reservation how many follow, and those: what was used
of each of its buckets."""
