"""What `reservations.py` does, and `turn.py` in the end, in Lua: the second part of every script.

A reservation `r` is a list: four fields of its own, and then those of each of its buckets, which begin behind `at`.
"""

from typing import Final

RESERVATIONS: Final = """
local counts, changed, found = {}, {}, {}

local function asked(numbers)
  local list = {num('>' .. string.rep('d', #numbers / 8), numbers)}
  list[#list] = nil  -- Where the numbers end.
  return list
end

local function raw_of(name)
  local raw = found[name]
  if raw == nil then return redis.call('GET', prefix .. name) end
  return raw
end

local function load_line(r, at)
  local name = r[at + NAME]
  local c = counts[name]
  changed[name] = true
  if c then return c end
  if r[at + KIND] == RATE then
    c = rate(raw_of(name), r[at + X], r[at + Y], r[at + Z], 0)
  elseif r[at + KIND] == QUOTA then
    c = quota(raw_of(name), 0, {r[at + X], r[at + Y]})
  else
    c = slots(raw_of(name), 0)
  end
  counts[name] = c
  return c
end

local function ahead(r, at) return r[4] == 1 and r[at + KIND] == RATE end
local function is_held(r, at) return r[at + KIND] == SLOTS or ahead(r, at) end

local function needs(r, at, total) return max(total, r[at + PROMISED]) - r[at + AMOUNT] end

local function take_line(r, at, c, amount)
  if c.kind == RATE then
    r[at + X], r[at + Y], r[at + Z] = c.gain, c.unit, c.tick_ms
  elseif c.kind == QUOTA then
    r[at + X], r[at + Y] = c.mark, c.stop
  end
  if amount == 0 then return end
  if ahead(r, at) then
    hold(c, amount)
    r[at + OLD] = r[at + OLD] + amount
  else
    take(c, amount)
    local unused = max(r[at + AMOUNT] - r[at + USED], 0)
    local new = min(r[at + NEW], unused)
    local old = min(r[at + OLD], unused - new)
    if old == 0 then r[at + OLD_MARK] = r[at + NEW_MARK] end
    r[at + OLD] = old + new
    r[at + NEW], r[at + NEW_MARK] = amount, c.mark
  end
  r[at + AMOUNT] = r[at + AMOUNT] + amount
  r[at + PROMISED] = max(r[at + PROMISED], r[at + AMOUNT])
end

local function note_used(r, at, c, used)
  r[at + USED] = max(r[at + USED], used)
  if ahead(r, at) then
    local begun = min(max(r[at + USED] - (r[at + AMOUNT] - r[at + OLD]), 0), r[at + OLD])
    use(c, begun)
    r[at + OLD] = r[at + OLD] - begun
  end
end

local function come_to(r, at, c, used)
  if ahead(r, at) then
    local freed = min(max(r[at + AMOUNT] - used, 0), r[at + OLD])
    free(c, freed)
    use(c, r[at + OLD] - freed)
    r[at + AMOUNT] = r[at + AMOUNT] - freed
    r[at + OLD] = 0
  end
  if used > r[at + AMOUNT] then take(c, used - r[at + AMOUNT]) end
  local back = max(r[at + AMOUNT] - used, 0)
  local new = min(back, r[at + NEW])
  local old = min(back - new, r[at + OLD])
  if new > 0 then give(c, new, r[at + NEW_MARK]) end
  if old > 0 then give(c, old, r[at + OLD_MARK]) end
  r[at + NEW], r[at + OLD] = r[at + NEW] - new, r[at + OLD] - old
  r[at + AMOUNT] = used
  r[at + PROMISED] = max(r[at + PROMISED], used)
end

local function record_key(id) return prefix .. 'i:' .. id end

local function read(raw)
  if not raw then return nil end
  local r = {unpacked(raw)}
  return r[2] > now and r or nil
end

local function write(id, r) put(record_key(id), pack(unpack(r)), r[2]) end

local function open(id, r, anew)
  r[1], r[2] = 1, now + r[3] + ENDED
  for at = HEAD, #r - 1, WIDTH do
    if r[at + KIND] == QUOTA then r[2] = max(r[2], r[at + Y]) end
  end
  for at = HEAD, #r - 1, WIDTH do
    if is_held(r, at) then
      local c = counts[r[at + NAME]]
      c.till = max(c.till, r[2])
    end
  end
  write(id, r)
  if anew then
    redis.call('ZADD', KEYS[1], now + r[3], id)
    if redis.call('PTTL', KEYS[1]) < r[2] - now then redis.call('PEXPIRE', KEYS[1], r[2] - now + BACK) end
  end
end

-- Shorten the leases that were given by a clock that has gone back since.
local function mend()
  local far = string.format('(%.0f', now + MOST_LEASE + BACK)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], far, '+inf', 'LIMIT', 0, MOST_REAPED)) do
    redis.call('ZADD', KEYS[1], now + LEASE, id)
  end
end

-- End the leases that are over, and give what is to be written of their reservations.
local function reap()
  local dead = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, MOST_REAPED)) do
    local r = read(redis.call('GET', record_key(id)))
    dead[id] = r or false
    if r then
      if r[1] == 1 then
        for at = HEAD, #r - 1, WIDTH do
          local final = r[at + USED]
          if r[4] == 1 then final = max(final, r[at + AMOUNT]) end
          if r[at + KIND] == SLOTS then final = 0 end
          if ahead(r, at) then
            local c = load_line(r, at)
            use(c, r[at + OLD])
            r[at + OLD], r[at + NEW], r[at + NEW_MARK] = 0, r[at + OLD], c.mark
            come_to(r, at, c, final)
          elseif final ~= r[at + AMOUNT] then
            come_to(r, at, load_line(r, at), final)
          end
        end
        r[1], r[2] = 2, now + ENDED
      else
        dead[id] = false
      end
    end
  end
  return dead
end

local function finish(dead)
  for id, r in pairs(dead) do
    redis.call('ZREM', KEYS[1], id)
    if r then write(id, r) end
  end
  for name in pairs(changed) do put(prefix .. name, stored(counts[name])) end
end
"""
