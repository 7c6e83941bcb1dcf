"""What `counts.py` does, in Lua: the first part of every script. Function by function the same, in the same order."""

from typing import Final

from capstan_gateway.limits.counts import ASK_AGAIN_MS, BACK_MS, MOST_DEBT, MOST_LOWS

_BOUNDS: Final = f"""
local BACK, MOST_DEBT, MOST_LOWS, ASK_AGAIN = {BACK_MS}, {MOST_DEBT}, {MOST_LOWS}, {ASK_AGAIN_MS}
"""
COUNTS: Final = (
    _BOUNDS
    + """
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local pack, unpacked = cmsgpack.pack, cmsgpack.unpack
local PREFIX = string.sub(KEYS[1], 1, -2)
local RATE, QUOTA, SLOTS = 0, 1, 2
local clock = redis.call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)

local function note_low(c)
  local marks, lows, n, level = c.marks, c.lows, c.n, c.level
  while n > 0 and lows[n] >= level do n = n - 1 end
  n = n + 1
  marks[n], lows[n] = c.marked, level
  if n > MOST_LOWS then
    local at, least = 1, lows[2] - lows[1]
    for i = 2, n - 1 do
      if lows[i + 1] - lows[i] < least then at, least = i, lows[i + 1] - lows[i] end
    end
    for i = at, n - 1 do marks[i] = marks[i + 1] end
    for i = at + 1, n - 1 do lows[i] = lows[i + 1] end
    n = n - 1
  end
  c.n = n
end

local function rate(raw, gain, unit, tick_ms, full)
  local tick, marks, lows, n = floor(now / tick_ms), {}, {}, 0
  local c = {kind = RATE, gain = gain, unit = unit, tick_ms = tick_ms, full = full, tick = tick,
    level = 0, held = 0, till = 0, born = now * 1000, marked = 0, marks = marks, lows = lows}
  if raw then
    local s = {unpacked(raw)}
    local level, was, held = s[1], s[2], s[7]
    c.born, c.marked, c.till = s[5], s[6] + 1, s[8]
    if c.till <= now then held = 0 end
    for i = 9, #s, 2 do
      n = n + 1
      marks[n], lows[n] = s[i], s[i + 1]
    end
    if s[3] ~= unit or s[4] ~= tick_ms then
      level = min(ceil(level / s[3]) * unit, MOST_DEBT)
      held = min(ceil(held / s[3]) * unit, MOST_DEBT)
      was = ceil(was * s[4] / tick_ms)
      for i = 1, n do lows[i] = min(floor(lows[i] / s[3]) * unit, MOST_DEBT) end
    end
    if tick > was then
      level = max(level - (tick - was) * gain, 0)
    elseif level > 0 and was * tick_ms - now <= BACK then
      c.tick = was
    end
    c.level, c.held = level, held
  end
  c.n = n
  c.mark = c.born + c.marked
  note_low(c)
  return c
end

local function quota(raw, limit, starts)
  local n, at = #starts, 1
  while at < n and starts[at + 1] <= now do at = at + 1 end
  local c = {kind = QUOTA, limit = limit, mark = starts[at], spent = 0}
  if raw then
    local began, spent = unpacked(raw)
    if began > now + BACK then
      c.spent = spent
    elseif began >= c.mark then
      c.mark, c.spent = began, spent
    end
  end
  at = 1
  while at <= n and starts[at] <= c.mark do at = at + 1 end
  c.stop = starts[at] or c.mark + starts[n] - starts[n - 1]
  return c
end

local function slots(raw, limit)
  local c = {kind = SLOTS, limit = limit, mark = 0, held = 0, till = 0}
  if raw then
    local held, till = unpacked(raw)
    if till > now then c.held, c.till = held, till end
  end
  return c
end

local function time_for(c, level)
  return (c.tick + ceil(level / c.gain)) * c.tick_ms - now
end

-- 0: there is enough; -1: there never is.
local function wait_for(c, amount)
  if amount == 0 then return 0 end
  if c.kind == RATE then
    local taken = amount * c.unit
    if c.level + c.held + taken <= c.full then return 0 end
    if taken > c.full then return -1 end
    if c.held + taken > c.full then return max(time_for(c, c.level), ASK_AGAIN) end
    return time_for(c, c.level + c.held + taken - c.full)
  end
  if amount > c.limit then return -1 end
  if c.kind == QUOTA then
    return c.spent + amount <= c.limit and 0 or max(c.stop - now, 1)
  end
  return c.held + amount <= c.limit and 0 or ASK_AGAIN
end

local function take(c, amount)
  if c.kind == RATE then
    c.level = min(c.level + amount * c.unit, MOST_DEBT)
  elseif c.kind == QUOTA then
    c.spent = min(c.spent + amount, MOST_DEBT)
  else
    c.held = min(c.held + amount, MOST_DEBT)
  end
end

local function hold(c, amount) c.held = min(c.held + amount * c.unit, MOST_DEBT) end
local function free(c, amount) c.held = max(c.held - amount * c.unit, 0) end
local function use(c, amount)
  free(c, amount)
  take(c, amount)
end

local function give(c, amount, mark)
  if c.kind == QUOTA then
    if mark == c.mark then c.spent = max(c.spent - amount, 0) end
  elseif c.kind == SLOTS then
    c.held = max(c.held - amount, 0)
  else
    local marks, lows, n, since, marked = c.marks, c.lows, c.n, 1, mark - c.born
    local given = min(amount * c.unit, c.level)
    while since <= n and marks[since] <= marked do since = since + 1 end
    if since <= n then given = min(given, lows[since]) end
    if mark > c.mark then given = 0 end
    c.level = c.level - given
    for i = since, n do lows[i] = lows[i] - given end
    while since > 1 and since <= n and lows[since - 1] >= lows[since] do
      since = since - 1
      table.remove(marks, since)
      table.remove(lows, since)
      n = n - 1
    end
    c.n = n
  end
end

local function standing(c)
  if c.kind == RATE then
    return floor((c.full - c.level - c.held) / c.unit), c.level > 0 and time_for(c, c.level) or 0
  elseif c.kind == QUOTA then
    return c.limit - c.spent, c.spent > 0 and max(c.stop - now, 1) or 0
  end
  return c.limit - c.held, c.held > 0 and ASK_AGAIN or 0
end

-- What is to be stored, and until when; nothing of a full bucket.
local function stored(c)
  if c.kind == QUOTA then
    if c.spent > 0 then return pack(c.mark, c.spent), c.stop + BACK end
  elseif c.kind == SLOTS then
    if c.held > 0 then return pack(c.held, c.till), c.till end
  elseif c.level > 0 or c.held > 0 then
    local s = {c.level, c.tick, c.unit, c.tick_ms, c.born, c.marked, c.held, c.till}
    for i = 1, c.n do s[7 + 2 * i], s[8 + 2 * i] = c.marks[i], c.lows[i] end
    local till = now + time_for(c, c.level) + 1
    return pack(unpack(s)), c.held > 0 and max(till, c.till) or till
  end
end

local function put(key, value, till)
  if value and till > now then redis.call('SET', key, value, 'PX', till - now) else redis.call('DEL', key) end
end
"""
)
