"""What `counts.py` does, in Lua: the first part of every script. Function by function the same, in the same order.

Words in capital letters that `script.py` knows are numbers there.
"""

from typing import Final

COUNTS: Final = """
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local pack, unpacked, num, str, sub = cmsgpack.pack, cmsgpack.unpack, struct.unpack, struct.pack, string.sub
local prefix = sub(KEYS[1], 1, -2)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)

-- Lows are a string of pairs, of which most changes look at the last one only.
local function note_low(c)
  local lows, level = c.lows, c.level
  local size = #lows
  while size > 0 and num('>d', lows, size - 7) >= level do size = size - 16 end
  if size < #lows then lows = sub(lows, 1, size) end
  lows = lows .. str('>dd', c.marked, level)
  if size == 16 * MOST_LOWS then
    local mark, first = num('>dd', lows)
    local kept, step = {}, floor((level - first) / PARTS)
    for at = 17, size + 1, 16 do
      local later, low = num('>dd', lows, at)
      if low - first >= step then
        kept[#kept + 1] = str('>dd', mark, first)
        first = low
      end
      mark = later
    end
    lows = table.concat(kept) .. str('>dd', mark, first)
  end
  c.lows = lows
end

local function rate(raw, gain, unit, tick_ms, full)
  local tick = floor(now / tick_ms)
  local c = {kind = RATE, gain = gain, unit = unit, tick_ms = tick_ms, full = full, tick = tick,
    level = 0, held = 0, till = 0, born = now * 1000, marked = 0, lows = ''}
  if raw then
    local level, was, of, ms, born, marked, held, till = num('>dddddddd', raw)
    c.born, c.marked, c.till, c.lows = born, marked + 1, till, sub(raw, 65)
    if till <= now then held = 0 end
    if of ~= unit or ms ~= tick_ms then
      level = min(ceil(level / of) * unit, MOST_DEBT)
      held = min(ceil(held / of) * unit, MOST_DEBT)
      was = ceil(was * ms / tick_ms)
      local kept = {}
      for at = 1, #c.lows, 16 do
        local mark, low = num('>dd', c.lows, at)
        kept[#kept + 1] = str('>dd', mark, min(floor(low / of) * unit, MOST_DEBT))
      end
      c.lows = table.concat(kept)
    end
    if tick > was then
      level = max(level - (tick - was) * gain, 0)
    elseif level > 0 and was * tick_ms - now <= BACK then
      c.tick = was
    end
    c.level, c.held = level, held
  end
  c.mark = c.born + c.marked
  note_low(c)
  return c
end

local function quota(raw, limit, starts)
  local n, at = #starts, 1
  while at < n and starts[at + 1] <= now do at = at + 1 end
  local c = {kind = QUOTA, limit = limit, mark = starts[at], spent = 0}
  if raw then
    local began, spent = num('>dd', raw)
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
    local held, till = num('>dd', raw)
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
    local given, marked, marks, lows, since = min(amount * c.unit, c.level), mark - c.born, {}, {}, 1
    for at = 1, #c.lows, 16 do marks[#marks + 1], lows[#lows + 1] = num('>dd', c.lows, at) end
    while since <= #marks and marks[since] <= marked do since = since + 1 end
    if since <= #lows then given = min(given, lows[since]) end
    if mark > c.mark then given = 0 end
    c.level = c.level - given
    for i = since, #lows do lows[i] = lows[i] - given end
    while since > 1 and since <= #lows and lows[since - 1] >= lows[since] do
      since = since - 1
      table.remove(marks, since)
      table.remove(lows, since)
    end
    for i = 1, #lows do lows[i] = str('>dd', marks[i], lows[i]) end
    c.lows = table.concat(lows)
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
    if c.spent > 0 then return str('>dd', c.mark, c.spent), c.stop + BACK end
  elseif c.kind == SLOTS then
    if c.held > 0 then return str('>dd', c.held, c.till), c.till end
  elseif c.level > 0 or c.held > 0 then
    local till = now + time_for(c, c.level) + 1
    local head = str('>dddddddd', c.level, c.tick, c.unit, c.tick_ms, c.born, c.marked, c.held, c.till)
    return head .. c.lows, c.held > 0 and max(till, c.till) or till
  end
end

local function put(key, value, till)
  if value and till > now then redis.call('SET', key, value, 'PX', till - now) else redis.call('DEL', key) end
end
"""
