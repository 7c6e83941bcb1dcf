"""The scripts of the queue, in Lua. Each is given `slot_key` as its only key and the prefix as its first argument.

Fields of `entry:<id>`:

    m  what is asked, without the body      b  the body                    t  tenant        o  the gateway that asked
    c  class                                q  when it came                n  where it starts in virtual time
    d  deadline, in milliseconds                                           s  w: waits, r: a worker has it
    w  the worker                           p  its place in the stream     a  how often it was taken
    f  pieces that were posted              u  bytes posted and not passed on
    z  1: a worker waits for `u` to sink    x  1: nobody wants it any more h  how often it was lost
    g  how far it has moved its tenant's next start                        y  1: no two workers may begin with it
"""

from typing import Final

from capstan_contract.queue.names import (
    ALIVE_MS,
    BATCH_TURN_MS,
    GROUP,
    KEPT_MS,
    LEASE_MS,
    MOST_BELLS,
    MOST_CRASHES,
    MOST_GAP_MS,
    MOST_MEAN_AGE_MS,
    MOST_OUT,
    MOST_TENANTS,
    MOST_TOLD,
    PASSED_OVER,
    QUIET_MS,
    SILENT_MS,
    WINDOW_BYTES,
    PriorityClass,
)

_COMMON: Final = f"""
local P = ARGV[1]
local CLASSES, GROUP, KEPT, ALIVE = {len(PriorityClass)}, '{GROUP}', {KEPT_MS}, {ALIVE_MS}
local BATCH = {int(PriorityClass.BATCH)}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local stats = KEYS[1]
local function whole(number) return string.format('%.0f', number) end
local function entry(id) return P .. 'entry:' .. id end
local function waits(class) return P .. 'wait:' .. class end
local function work(class) return P .. 'work:' .. class end
local function number(text, other) return tonumber(text or '') or other end

local function waiting()
  local sum = 0
  for class = 0, CLASSES - 1 do sum = sum + redis.call('ZCARD', waits(class)) end
  return sum
end

-- A script that touches a key more than once says only the first time how long it stays.
local kept = {{}}
local function keep(key, milliseconds)
  if kept[key] then return end
  kept[key] = true
  redis.call('PEXPIRE', key, milliseconds)
end

local function ring(what)
  if redis.call('LPUSH', P .. 'bell', what) > {MOST_BELLS} then
    redis.call('LTRIM', P .. 'bell', 0, {MOST_BELLS - 1})
  end
  keep(P .. 'bell', KEPT)
end

local function tell_worker(worker, what)
  local key = P .. 'told:' .. worker
  redis.call('RPUSH', key, what)
  redis.call('LTRIM', key, -{MOST_TOLD}, -1)
  redis.call('PEXPIRE', key, {4 * LEASE_MS})
end

-- `place` says which taking of the entry a piece is of, also where a Redis that has lost its latest writes counts
-- attempts anew; `number` is the piece's in the answer. What Redis says by itself may have neither.
local function tell_owner(owner, id, attempt, kind, data, place, number)
  local key = P .. 'out:' .. owner
  redis.call('XADD', key, 'MAXLEN', '~', {2 * MOST_OUT}, '*', 'i', id, 'a', attempt, 'k', kind, 'd', data,
             'p', place or '', 'n', number or '')
  keep(key, {4 * ALIVE_MS})
end

local function forget(id, owner)
  redis.call('DEL', entry(id))
  redis.call('SREM', P .. 'own:' .. owner, id)
end

-- What a gateway has asked for is dropped, as it was silent: if it is there after all, its next beat hears of that.
local function note_dropped(owner)
  redis.call('SET', P .. 'dropped:' .. owner, 1, 'PX', {4 * ALIVE_MS})
end

local function leave_work(class, place)
  if not place then return end
  redis.call('XACK', work(class), GROUP, place)
  redis.call('XDEL', work(class), place)
end

-- An entry is gone that was there: Redis has given it up, as its clock was set, or somebody has deleted it. Nobody
-- knows whose it was, so all gateways look for theirs.
local function note_missing()
  for _, owner in ipairs(redis.call('ZRANGE', P .. 'alive', 0, -1)) do note_dropped(owner) end
end

-- One that waits goes, with its bytes.
local function leave_waiting(id, class, bytes)
  if redis.call('ZREM', waits(class), id) == 1 then redis.call('HINCRBY', stats, 'bytes', 0 - bytes) end
  if waiting() == 0 then redis.call('HDEL', stats, 'last') end
end

-- How long it takes from one take to the next one, in milliseconds (0: nobody knows, or not any more), the bytes that
-- wait, and when the last take was.
local function measured()
  local known = redis.call('HMGET', stats, 'mean', 'mean_at', 'bytes', 'last')
  local mean = number(known[1], 0)
  if math.abs(now - number(known[2], 0)) > {MOST_MEAN_AGE_MS} then mean = 0 end
  return mean, number(known[3], 0), tonumber(known[4] or '')
end

-- In front of all that came later: its own start may be of a period that is over, in which the numbers were higher.
local function wait_again(id, class, start, place)
  leave_work(class, place)
  local virtual = number(redis.call('HGET', P .. 'virtual', class), 0)
  start = string.format('%.6f', math.min(tonumber(start), virtual - 1))
  redis.call('HSET', entry(id), 's', 'w', 'n', start)
  redis.call('HDEL', entry(id), 'w', 'p', 'u', 'z')
  redis.call('HINCRBY', stats, 'bytes', redis.call('HSTRLEN', entry(id), 'b'))
  redis.call('ZADD', waits(class), start, id)
  ring(id)
end

-- Whoever had it is gone, and knows nothing of it any more.
local function lost(id)
  local e = redis.call('HMGET', entry(id), 's', 'c', 'o', 'a', 'f', 'h', 'n', 'p', 'x', 'd', 'y')
  if e[1] ~= 'r' then return end
  local class, owner = e[2], e[3]
  local losses = number(e[6], 0) + 1
  local word
  if e[9] then
    word = ''
  elseif e[5] or e[11] then
    word = 'lost'
  elseif losses >= {MOST_CRASHES} then
    word = 'poison'
  elseif tonumber(e[10]) <= now then
    word = 'expired'
  else
    redis.call('HSET', entry(id), 'h', losses)
    wait_again(id, class, e[7], e[8])
    return
  end
  leave_work(class, e[8])
  if word ~= '' then tell_owner(owner, id, e[4], 'f', word, word == 'lost' and e[8]) end
  forget(id, owner)
end

-- An entry goes that no worker has ever had: its tenant has not had what it would have taken.
local function repay(id)
  local e = redis.call('HMGET', entry(id), 'c', 't', 'g', 'a')
  local finish = e[1] and tonumber(redis.call('HGET', P .. 'finish:' .. e[1], e[2]) or '')
  if not finish or not e[3] or e[4] ~= '0' then return end
  local left = finish - tonumber(e[3])
  if left > number(redis.call('HGET', P .. 'virtual', e[1]), 0) then
    redis.call('HSET', P .. 'finish:' .. e[1], e[2], string.format('%.6f', left))
  else
    redis.call('HDEL', P .. 'finish:' .. e[1], e[2])
  end
end

local function cancel(id)
  local e = redis.call('HMGET', entry(id), 's', 'c', 'o', 'w')
  if not e[1] then
    -- Redis has perhaps given it up by itself, and not its place among those that wait.
    for class = 0, CLASSES - 1 do leave_waiting(id, class, 0) end
    for _, owner in ipairs(redis.call('ZRANGE', P .. 'alive', 0, -1)) do
      redis.call('SREM', P .. 'own:' .. owner, id)
    end
    return 0
  end
  if e[1] == 'w' then
    repay(id)
    leave_waiting(id, e[2], redis.call('HSTRLEN', entry(id), 'b'))
    redis.call('SREM', P .. 'silent:' .. e[3], id)
    forget(id, e[3])
    return 1
  end
  redis.call('HSET', entry(id), 'x', 1)
  tell_worker(e[4], 'x' .. id)
  return 2
end
"""


_HEARD: Final = f"""
-- The clock was put back: what was said of times that are to come is said anew.
local function put_back()
  redis.call('HDEL', P .. 'passed', 'turn')
  for _, key in ipairs({{P .. 'alive', P .. 'workers'}}) do
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. whole(now + ALIVE), '+inf')) do
      redis.call('ZADD', key, whole(now + ALIVE), name)
    end
  end
  for class = 0, CLASSES - 1 do
    if redis.call('EXISTS', work(class)) == 1 then
      for _, one in ipairs(redis.call('XPENDING', work(class), GROUP, '-', '+', 10000)) do
        redis.call('XCLAIM', work(class), GROUP, one[2], 0, one[1], 'IDLE', 0, 'JUSTID')
      end
    end
  end
end

-- Somebody is there. Gives whether the silence of others says that they are gone: not where nobody was heard of for a
-- while, as then Redis was away, or its clock was set, and nobody could say anything.
local function hear()
  local known = redis.call('HMGET', stats, 'heard', 'mercy')
  local gap, mercy = now - number(known[1], now), number(known[2], 0)
  if gap < -{QUIET_MS} then put_back() end
  if math.abs(gap) > {QUIET_MS} then
    mercy = now + {LEASE_MS}
    redis.call('HSET', stats, 'mercy', whole(mercy))
  end
  if not known[1] or math.abs(gap) > {QUIET_MS // 10} then
    redis.call('HSET', stats, 'heard', whole(now))
    redis.call('PEXPIRE', stats, KEPT)
  end
  return now >= mercy
end

-- A gateway speaks that has said nothing for a while: what it waits for and was passed by waits in front again.
local function let_wait(owner)
  for _, id in ipairs(redis.call('SPOP', P .. 'silent:' .. owner, 1000)) do
    local e = redis.call('HMGET', entry(id), 's', 'c', 'n')
    if e[1] == 'w' then wait_again(id, e[2], e[3]) end
  end
end
"""

_EVEN_FULL: Final = """
-- A Redis without memory refuses a script's first write where that may take some, and none behind it. This one takes
-- none: what frees memory in the end, and what says that somebody is there, must go on.
redis.call('HDEL', stats, '')
"""

ENQUEUE: Final = (
    _COMMON
    + f"""
local TURN = {BATCH_TURN_MS}

-- Tenants that would start now whatever they have had before are as good as unknown. Where there are many, each new one
-- lets some of them be forgotten, so that their number stays about that of those who wait; and where there are very
-- many others as well, which gives them a turn too early.
local function forget_tenants(class, virtual)
  local finish, field = P .. 'finish:' .. class, 'cursor:' .. class
  local many = redis.call('HLEN', finish)
  if many <= {MOST_TENANTS} then return end
  local found = redis.call('HSCAN', finish, redis.call('HGET', stats, field) or '0', 'COUNT', 20)
  redis.call('HSET', stats, field, found[1])
  for at = 1, #found[2], 2 do
    if tonumber(found[2][at + 1]) <= virtual or many > {10 * MOST_TENANTS} then
      redis.call('HDEL', finish, found[2][at])
    end
  end
end

local id, class, tenant, weight, cost = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local ttl, owner, meta, body = tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local most, most_bytes, most_wait = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
if now > number(ARGV[15], now) then return {{'late', 0, -1}} end
if redis.call('EXISTS', entry(id)) == 1 then return {{'known', 0, -1}} end
local mean, bytes = measured()
local counts, count = {{}}, 0
for other = 0, CLASSES - 1 do
  counts[other] = redis.call('ZCARD', waits(other))
  count = count + counts[other]
end
-- What is given up by Redis itself takes its bytes along.
if count == 0 then bytes = 0 end
local one = math.max(math.ceil(mean), 1)
if count >= most then return {{'length', count, one * (count - most + 1)}} end
if bytes + #body > most_bytes then return {{'bytes', count, one}} end

local finish = P .. 'finish:' .. class
local virtual = number(redis.call('HGET', P .. 'virtual', class), 0)
local had = tonumber(redis.call('HGET', finish, tenant) or '')
local start = math.max(virtual, had or 0)
local starts, charge = string.format('%.6f', start), math.max(cost, 1) / weight
local ahead = 0
if counts[tonumber(class)] > 0 then ahead = redis.call('ZCOUNT', waits(class), '-inf', '(' .. starts) end
for above = 0, tonumber(class) - 1 do ahead = ahead + counts[above] end
local expected = -1
if ahead == 0 then expected = 0 elseif mean > 0 then expected = math.ceil(ahead * mean) end
if expected > most_wait then return {{'wait', ahead, expected - most_wait}} end
if expected >= ttl then return {{'deadline', ahead, expected - ttl + 1}} end

-- First of all what takes memory: a Redis that has none refuses a script's first write only, and this one as a whole.
local fields = {{'b', body, 'm', meta, 'c', class, 't', tenant, 'o', owner, 'n', starts, 'd', whole(now + ttl),
                'q', whole(now), 's', 'w', 'a', 0, 'g', string.format('%.6f', charge)}}
if ARGV[14] == '1' then
  fields[#fields + 1] = 'y'
  fields[#fields + 1] = 1
end
redis.call('HSET', entry(id), unpack(fields))
redis.call('PEXPIRE', entry(id), whole(ttl + 600000))
redis.call('SADD', P .. 'own:' .. owner, id)
redis.call('ZADD', P .. 'alive', whole(now + ALIVE), owner)
redis.call('PEXPIRE', P .. 'alive', KEPT)
redis.call('PEXPIRE', P .. 'own:' .. owner, KEPT)
redis.call('HSET', finish, tenant, string.format('%.6f', start + charge))
redis.call('PEXPIRE', finish, KEPT)
redis.call('ZADD', waits(class), starts, id)
redis.call('PEXPIRE', waits(class), KEPT)
redis.call('HSET', stats, 'bytes', whole(bytes + #body))
redis.call('PEXPIRE', stats, KEPT)
if tonumber(class) == BATCH and counts[BATCH] == 0 then
  redis.call('HSET', P .. 'passed', 'turn', whole(now + TURN))
  redis.call('PEXPIRE', P .. 'passed', KEPT)
end
ring(id)
if not had then forget_tenants(class, virtual) end
return {{'ok', ahead, expected}}
"""
)
"""ARGV: prefix, id, class, tenant, weight, tokens that it will take, milliseconds to its deadline, gateway, what is
asked, body, most entries that wait, most bytes that wait, most milliseconds of expected wait, 1 where no other worker
may begin with it when one is lost that has it, the time of Redis behind which nobody waits for the reply any more, or
nothing where that is not known.

Gives [word, place, milliseconds]: `ok` and `known` (it is there: a second call changes nothing) with the expected
wait, -1 where nobody knows; `length`, `bytes`, `wait` and `deadline` where it is refused, with how much later to ask
again; `late` where it came too late to be put in."""

TAKE: Final = (
    _COMMON
    + _HEARD
    + _EVEN_FULL
    + f"""
local worker, most, spare = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local passed, given, looked, waited = P .. 'passed', {{}}, 0, 0
local counts, left_waiting = {{}}, 0
for class = 0, CLASSES - 1 do
  counts[class] = redis.call('ZCARD', waits(class))
  left_waiting = left_waiting + counts[class]
end
if left_waiting == 0 then
  redis.call('DEL', P .. 'bell')
  return given
end

-- The least urgent class has what is spare; but one of it goes when it has had none for so long: or it might stand.
local turn, overdue = nil, false
if counts[BATCH] > 0 then
  turn = tonumber(redis.call('HGET', passed, 'turn') or '')
  overdue = turn ~= nil and turn <= now
  if not turn then redis.call('HSET', passed, 'turn', whole(now + {BATCH_TURN_MS})) end
end
local judges = hear()

local function choose()
  local first
  for class = 0, CLASSES - 1 do
    if counts[class] > 0 and (class < BATCH or #given < spare or overdue) then
      if not first then
        first = class
      elseif class == BATCH and overdue then
        return class
      elseif number(redis.call('HGET', passed, class), 0) >= {PASSED_OVER} then
        return class
      end
    end
  end
  return first
end

local function pass_over(class)
  redis.call('HDEL', passed, class)
  for other = class + 1, CLASSES - 1 do
    if counts[other] > 0 then redis.call('HINCRBY', passed, other, 1) end
  end
  if class == BATCH then
    overdue = false
    redis.call('HSET', passed, 'turn', whole(now + {BATCH_TURN_MS}))
  end
end

local silences = {{}}
local function silence_of(owner)
  if not silences[owner] then
    silences[owner] = now + ALIVE - number(redis.call('ZSCORE', P .. 'alive', owner), 0)
  end
  return silences[owner]
end

-- Of all entries of a class that are given, the group is told at once.
local added = {{}}
local function add(class, id)
  if not added[class] and redis.call('EXISTS', work(class)) == 0 then
    redis.call('XGROUP', 'CREATE', work(class), GROUP, '$', 'MKSTREAM')
  end
  added[class] = (added[class] or 0) + 1
  return redis.call('XADD', work(class), '*', 'i', id)
end

while #given < most and looked < 1000 do
  local class = choose()
  if not class then break end
  looked = looked + 1
  local popped = redis.call('ZPOPMIN', waits(class))
  local id, start = popped[1], popped[2]
  counts[class] = counts[class] - 1
  left_waiting = left_waiting - 1
  if counts[class] == 0 then
    -- Nobody waits: a new period begins, in which nobody has had anything.
    redis.call('HDEL', P .. 'virtual', class)
    redis.call('DEL', P .. 'finish:' .. class)
  else
    -- One that was given back may start before what has been taken since: time does not go back for it.
    if tonumber(start) > number(redis.call('HGET', P .. 'virtual', class), 0) then
      redis.call('HSET', P .. 'virtual', class, start)
    end
  end
  local e = redis.call('HMGET', entry(id), 'd', 'o', 'm', 'b', 'a', 'q')
  if e[1] then
    redis.call('HINCRBY', stats, 'bytes', 0 - #e[4])
    local left = tonumber(e[1]) - now
    local silence = silence_of(e[2])
    if judges and silence >= ALIVE then
      repay(id)
      forget(id, e[2])
      note_dropped(e[2])
    elseif left <= 0 then
      repay(id)
      tell_owner(e[2], id, e[5], 'f', 'expired')
      forget(id, e[2])
    elseif silence >= {SILENT_MS} then
      redis.call('SADD', P .. 'silent:' .. e[2], id)
      redis.call('PEXPIRE', P .. 'silent:' .. e[2], KEPT)
    else
      pass_over(class)
      local place = add(class, id)
      local attempt = number(e[5], 0) + 1
      redis.call('HSET', entry(id), 'a', attempt, 's', 'r', 'w', worker, 'p', place)
      waited = math.max(waited, now - tonumber(e[6]))
      given[#given + 1] = {{id, attempt, class, left, now - tonumber(e[6]), e[3], e[4]}}
    end
  else
    note_missing()
  end
end

for class, count in pairs(added) do
  redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', count, 'STREAMS', work(class), '>')
  redis.call('PEXPIRE', work(class), KEPT)
end

-- How fast work goes out is told by takes while others wait: without a queue it is only how fast work comes in. Then it
-- is no slower than the longest wait of those that are taken: else a mean that keeps all others away would never sink.
if #given > 0 then
  local mean, _, last = measured()
  if last and redis.call('ZCOUNT', P .. 'workers', '(' .. whole(now), '+inf') == 0 then last = nil end
  local gap
  if last then
    gap = math.min(math.max(now - last, 0) / #given, {MOST_GAP_MS})
  elseif left_waiting == 0 and waited < mean then
    gap = waited
  end
  if gap then
    if mean == 0 then mean = gap end
    mean = mean + (1 - 0.9 ^ #given) * (gap - mean)
    redis.call('HSET', stats, 'mean', string.format('%.3f', math.max(mean, 0.001)), 'mean_at', whole(now))
  end
end
if left_waiting == 0 then
  redis.call('HDEL', stats, 'last')
  -- What has rung for others of those that were taken would wake workers for nothing.
  redis.call('DEL', P .. 'bell')
elseif #given > 0 then
  redis.call('HSET', stats, 'last', whole(now))
end
return given
"""
)
"""ARGV: prefix, worker, most entries, below how many of them one of the least urgent class may be taken too. Gives a
list of entries: id, which attempt it is, class, milliseconds to its deadline, milliseconds that it has waited, what is
asked, body. What nobody wants any more, or is too late, is dropped, and its gateway told."""

HAS: Final = (
    _COMMON
    + """
local worker, ids = ARGV[2], {}
for class = 0, CLASSES - 1 do
  if redis.call('EXISTS', work(class)) == 1 then
    for _, one in ipairs(redis.call('XPENDING', work(class), GROUP, '-', '+', 10000, worker)) do
      local found = redis.call('XRANGE', work(class), one[1], one[1])[1]
      local id = found and found[2][2]
      if id and redis.call('HGET', entry(id), 'p') == one[1] then ids[#ids + 1] = id end
    end
  end
end
return ids
"""
)
"""ARGV: prefix, worker. Gives the ids of the entries that it has."""

POST: Final = (
    _COMMON
    + _EVEN_FULL
    + f"""
local worker = ARGV[2]
local said, seen, ended, grown, lengths = {{}}, {{}}, {{}}, {{}}, {{}}

local function look(id)
  if not seen[id] then seen[id] = redis.call('HMGET', entry(id), 's', 'w', 'x', 'o', 'a', 'u', 'f', 'c', 'p') end
  return seen[id]
end

local function length(owner)
  if not lengths[owner] then lengths[owner] = redis.call('XLEN', P .. 'out:' .. owner) end
  return lengths[owner]
end

local function finish(id, e)
  leave_work(e[8], e[9])
  forget(id, e[4])
  seen[id], ended[id], grown[id] = {{}}, true, nil
end

for at = 3, #ARGV, 5 do
  local id, attempt, place, kind, data = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4]
  local e = look(id)
  local word, posted, unread = 'ok', number(e[7], 0), number(e[6], 0)
  if e[1] ~= 'r' or e[2] ~= worker or e[5] ~= attempt then
    word = 'gone'
    if not e[1] and not ended[id] then note_missing() end
  elseif e[3] then
    finish(id, e)
    word = 'gone'
  elseif place > posted then
    word = 'full'
  elseif place == posted and kind == 'd' and unread > 0 and unread + #data > {WINDOW_BYTES} then
    redis.call('HSET', entry(id), 'z', 1)
    word = 'full'
  elseif place == posted and (kind == 'h' or kind == 'd') and length(e[4]) >= {MOST_OUT} then
    -- Its gateway reads nothing: more would push out what it has not read.
    redis.call('HSET', entry(id), 'z', 1)
    word = 'full'
  elseif place == posted then
    tell_owner(e[4], id, e[5], kind, data, e[9], posted)
    lengths[e[4]] = length(e[4]) + 1
    if kind == 'e' or kind == 'f' then
      finish(id, e)
    else
      e[7], grown[id] = posted + 1, true
      if kind == 'd' then e[6] = unread + #data end
    end
  end
  said[#said + 1] = word
end
for id in pairs(grown) do
  redis.call('HSET', entry(id), 'f', whole(seen[id][7]), 'u', whole(number(seen[id][6], 0)))
end
return said
"""
)
"""ARGV: prefix, worker, then for each piece its id, attempt, number in the answer, kind (h: head, d: data, e: end, f:
failure) and data. Gives a word for each: ok, also of one that was taken before; full: not taken, as the reader is slow
(`told` says when to go on), or one in front of it was not taken; gone: nobody wants it, or it is another worker's, or
another attempt's, or the answer has ended."""

ACK: Final = (
    _COMMON
    + _EVEN_FULL
    + f"""
for at = 2, #ARGV, 2 do
  local id, passed = ARGV[at], tonumber(ARGV[at + 1])
  local e = redis.call('HMGET', entry(id), 'u', 'z', 'w')
  if e[1] then
    local left = math.max(tonumber(e[1]) - passed, 0)
    redis.call('HSET', entry(id), 'u', whole(left))
    if e[2] and e[3] and left <= {WINDOW_BYTES // 2} then
      redis.call('HDEL', entry(id), 'z')
      tell_worker(e[3], 'g' .. id)
    end
  end
end
return 1
"""
)
"""ARGV: prefix, then for each answer its id and how many more bytes of it have been passed on."""

CANCEL: Final = (
    _COMMON
    + _EVEN_FULL
    + """
local found = 0
for at = 2, #ARGV do
  if cancel(ARGV[at]) > 0 then found = found + 1 end
end
return found
"""
)
"""ARGV: prefix, then ids. Gives how many were there."""

WITHDRAW: Final = (
    _COMMON
    + _EVEN_FULL
    + """
local withdrawn = {}
for at = 2, #ARGV do
  if redis.call('HGET', entry(ARGV[at]), 's') == 'w' and cancel(ARGV[at]) == 1 then
    withdrawn[#withdrawn + 1] = ARGV[at]
  end
end
return withdrawn
"""
)
"""ARGV: prefix, then ids. Cancels those that no worker has, and gives them; the others stay as they are."""

GIVE_BACK: Final = (
    _COMMON
    + _EVEN_FULL
    + """
local worker, crashed, had = ARGV[2], ARGV[3] == '1', ARGV[3] == '2'
for at = 4, #ARGV, 2 do
  local id, attempt = ARGV[at], ARGV[at + 1]
  local e = redis.call('HMGET', entry(id), 's', 'w', 'f', 'c', 'n', 'p', 'x', 'o', 'a', 'y')
  if e[1] == 'r' and e[2] == worker and (attempt == '' or e[9] == attempt) then
    if e[7] then
      leave_work(e[4], e[6])
      forget(id, e[8])
    elseif crashed or e[3] or (had and e[10]) then
      lost(id)
    else
      wait_again(id, e[4], e[5], e[6])
    end
  end
end
return 1
"""
)
"""ARGV: prefix, worker, 1 if its engine has died, 2 if an engine may have begun with them, else 0, then ids, each with
the attempt that is meant, or nothing for whichever the worker has. What nothing was posted of waits again, in front of
what came later; of a dead engine it counts as a loss. What no two workers may begin with fails where an engine may have
begun with it."""

RENEW: Final = (
    _COMMON
    + _HEARD
    + _EVEN_FULL
    + """
local worker, room, gone = ARGV[2], ARGV[3], {}
hear()
if tonumber(room) < 0 then
  redis.call('ZADD', P .. 'workers', whole(now), worker)
  redis.call('HDEL', P .. 'room', worker)
else
  -- While nobody was there nothing could be taken: that says nothing of how fast workers are.
  if redis.call('ZCOUNT', P .. 'workers', '(' .. whole(now), '+inf') == 0 then redis.call('HDEL', stats, 'last') end
  redis.call('ZADD', P .. 'workers', whole(now + ALIVE), worker)
  redis.call('HSET', P .. 'room', worker, room)
end
for at = 4, #ARGV do
  local id = ARGV[at]
  local e = redis.call('HMGET', entry(id), 's', 'w', 'x', 'c', 'p')
  if e[1] ~= 'r' or e[2] ~= worker or e[3] then
    gone[#gone + 1] = id
  else
    redis.call('XCLAIM', work(e[4]), GROUP, worker, 0, e[5], 'JUSTID')
  end
end
for _, key in ipairs({'workers', 'room', 'virtual', 'passed'}) do redis.call('PEXPIRE', P .. key, KEPT) end
return gone
"""
)
"""ARGV: prefix, worker, how many more it would take (-1: none any more, it ends), then the ids that it has. Gives those
that it need not work on."""

BEAT: Final = (
    _COMMON
    + _HEARD
    + _EVEN_FULL
    + """
local owner = ARGV[2]
-- Where nobody's silence says anything, all are there that were.
local since = hear() and '(' .. whole(now) or '-inf'
redis.call('ZADD', P .. 'alive', whole(now + ALIVE), owner)
redis.call('PEXPIRE', P .. 'alive', KEPT)
let_wait(owner)
local counts, oldest = {}, 0
for class = 0, CLASSES - 1 do
  counts[class + 1] = redis.call('ZCARD', waits(class))
  local head = redis.call('ZRANGE', waits(class), 0, 0)[1]
  local came = head and redis.call('HGET', entry(head), 'q')
  if came then oldest = math.max(oldest, now - tonumber(came)) end
end
local room, workers = 0, 0
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', since, '+inf')) do
  local more = redis.call('HGET', P .. 'room', worker)
  if more then
    workers = workers + 1
    room = room + number(more, 0)
  end
end
local running = 0
for class = 0, CLASSES - 1 do
  if redis.call('EXISTS', work(class)) == 1 then running = running + redis.call('XLEN', work(class)) end
end
local mean, bytes = measured()
return {counts, bytes, oldest,
        whole(mean * 1000), running, room, workers,
        redis.call('ZCOUNT', P .. 'alive', since, '+inf'), redis.call('DEL', P .. 'dropped:' .. owner),
        whole(now)}
"""
)
"""ARGV: prefix, gateway. Gives how many wait in each class, their bytes, milliseconds that the first of them have
waited, microseconds between two takes while others wait (0: not known), how many workers have, how many more they would
take, how many workers there are, how many gateways, and 1 where something of this gateway was dropped since its last
beat, as it was silent for too long; else 0; the time of Redis, in milliseconds."""

LEAVE: Final = (
    _COMMON
    + _EVEN_FULL
    + """
local kind, name = ARGV[2], ARGV[3]
if kind == 'gateway' then
  redis.call('ZADD', P .. 'alive', whole(now), name)
else
  -- SWEEP forgets it when it has nothing any more: until then it hears of what it still works on.
  redis.call('ZADD', P .. 'workers', whole(now), name)
  redis.call('HDEL', P .. 'room', name)
end
return 1
"""
)
"""ARGV: prefix, `gateway` or `worker`, its name. Whoever ends in order says so: nobody has to wait for its silence."""

SWEEP: Final = (
    _COMMON
    + _HEARD
    + _EVEN_FULL
    + f"""
local done, judges = 0, hear()
-- A gateway of a release before this one does not see to it by its beats.
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', P .. 'alive', '(' .. whole(now + ALIVE - {SILENT_MS}), '+inf')) do
  let_wait(owner)
end
if not judges then return 0 end
for class = 0, CLASSES - 1 do
  if redis.call('EXISTS', work(class)) == 1 then
    for _, one in ipairs(redis.call('XPENDING', work(class), GROUP, 'IDLE', {LEASE_MS}, '-', '+', 100)) do
      local found = redis.call('XRANGE', work(class), one[1], one[1])[1]
      local id = found and found[2][2]
      if id and redis.call('HGET', entry(id), 'p') == one[1] then
        lost(id)
      else
        leave_work(class, one[1])
      end
      done = done + 1
    end
  end
end
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', P .. 'alive', '-inf', whole(now), 'LIMIT', 0, 5)) do
  for _, id in ipairs(redis.call('SPOP', P .. 'own:' .. owner, 100)) do
    cancel(id)
    note_dropped(owner)
    done = done + 1
  end
  if redis.call('SCARD', P .. 'own:' .. owner) == 0 then
    redis.call('ZREM', P .. 'alive', owner)
    redis.call('DEL', P .. 'out:' .. owner, P .. 'silent:' .. owner)
  end
end
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', '-inf', whole(now), 'LIMIT', 0, 5)) do
  local busy = false
  for class = 0, CLASSES - 1 do
    if redis.call('EXISTS', work(class)) == 1 then
      if #redis.call('XPENDING', work(class), GROUP, '-', '+', 1, worker) > 0 then
        busy = true
      else
        redis.call('XGROUP', 'DELCONSUMER', work(class), GROUP, worker)
      end
    end
  end
  if not busy then
    redis.call('ZREM', P .. 'workers', worker)
    redis.call('HDEL', P .. 'room', worker)
    redis.call('DEL', P .. 'told:' .. worker)
  end
end
return done
"""
)
"""ARGV: prefix. Takes entries from workers that have not renewed them, drops what gateways have left that are gone, and
forgets both. Gives how many entries it has seen to; whoever gets 100 or more asks again."""

KNOWN: Final = (
    _COMMON
    + """
local unknown = {}
for at = 2, #ARGV do
  if redis.call('EXISTS', entry(ARGV[at])) == 0 then unknown[#unknown + 1] = ARGV[at] end
end
return unknown
"""
)
"""ARGV: prefix, then ids. Gives those that Redis does not know, or not any more."""

RING: Final = (
    _COMMON
    + _EVEN_FULL
    + """
local count = waiting()
if count > 0 then ring('') end
return count
"""
)
"""ARGV: prefix. Rings the bell for others, if something waits. Gives how many wait."""
