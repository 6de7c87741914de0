-- The one atomic step: counters, detector states, ledger, outbox and offset of one partition on one shard.
--
-- KEYS    offsets, ledger, active, outbox
-- ARGV[1] partition, "topic:number"
-- ARGV[2] base: the offset this step builds on, -1 for none
-- ARGV[3] msgpack: {last, prefix, channel, arrival_ms, ledger, groups, products, transitions, seen, forgotten,
--         clustered, model, erased}
--           ledger       {{field, count}, ...}
--           groups       {{bucket field, ...}, ...}: events of one minute go to the same buckets
--           products     flat, for nested arrays cost three times as much: of each product its id, late,
--                        first_ms, last_ms, state length and number of spans, then of each span the number of
--                        its group and its four counts
--           transitions  {length, ...}
--           seen         {{key, length of its fingerprints}, ...}
--           forgotten    {key, ...}
--           clustered    whether this is a node of a cluster
--           model        the version that scored this step, where that is to be noted; else empty
--           erased       the shard's mark of erasures when its states were read
-- ARGV[4] the detector states of the products (length 0: leave the stored one), then the transitions' JSON,
--         then the fingerprints, end to end: Lua's msgpack knows no binary type
-- Returns false when applied, the offset that is stored instead of the base, -2 when the counters are moved to
-- another generation, or -3 when something was erased since (see stream/store/layout.py).
--
-- The fleet's hash is written as a product's is, from the sums of the products': see docs/redis-layout.md.
--
-- A lower stored offset means Redis lost writes (a gap), a higher one that somebody else applied them (a
-- duplicate, a zombie). Either way nothing is written, and the worker goes by what is stored.

local found = redis.call('HMGET', KEYS[1], ARGV[1], 'moved', 'erased')
if found[2] then
  return -2
end
local stored = tonumber(found[1] or -1)
if stored ~= tonumber(ARGV[2]) then
  return stored
end

-- See stream/core/buckets.py; by resolution, the smallest first.
local CODES = 4
local WIDTH_MS, KEEP_MS, SLOTS = { 60000, 3600000, 21600000 }, { 3600000, 86400000, 604800000 }, { 66, 26, 30 }
-- See stream/store/values.py.
local TOTAL, CURRENT = '<ddddddd', '<I4I4I4dI4I4I4dI4I4I4d'
local TINY, SMALL, LARGE = '<I2BBBi2', '<I2I2I2I2i4', '<I2I4I4I4d'
local SHAPE_OF = { [7] = TINY, [12] = SMALL, [22] = LARGE }
local FIRST_SLOT, LAPS = { 0, 100, 200 }, 65536
local MODELS_NOTED = 16 -- of a partition, the latest
local CHUNK = 2000 -- arguments of one call; Lua's stack holds some 8,000

local last, prefix, channel, arrival_ms, ledger, groups, products, transitions, seen, forgotten, clustered, model,
  erased = unpack(cmsgpack.unpack(ARGV[3]))
if tonumber(found[3] or 0) ~= erased then
  return -3
end
local call, unpack_struct, pack_struct = redis.call, struct.unpack, struct.pack
local models = prefix .. 'models'

-- While a slot is on its way to another master, key by key, a script ends at the first key that is not here: half
-- done, without its offset, to be counted twice. So every key is touched before anything is written; EXISTS ends
-- the script then, too, and the worker waits until the slot has arrived.
if clustered then
  local touched = { models, prefix .. 'fleet', unpack(KEYS) }
  local at = 1
  while at <= #products do
    touched[#touched + 1] = prefix .. 'product:' .. products[at]
    touched[#touched + 1] = products[at + 4] > 0 and prefix .. 'spike:' .. channel .. ':' .. products[at] or nil
    at = at + 6 + 5 * products[at + 5]
  end
  for _, fingerprints in ipairs(seen) do
    touched[#touched + 1] = fingerprints[1]
  end
  for _, key in ipairs(forgotten) do
    touched[#touched + 1] = key
  end
  for first = 1, #touched, CHUNK do
    call('EXISTS', unpack(touched, first, math.min(first + CHUNK - 1, #touched)))
  end
end

-- A group is the number of its bucket at each resolution, or false.
for n, fields in ipairs(groups) do
  local group = { false, false, false }
  for _, field in ipairs(fields) do
    local code = field % CODES
    group[code + 1] = (field - code) / CODES
  end
  groups[n] = group
end

local function lap_of(size, bucket)
  return (bucket - bucket % SLOTS[size]) / SLOTS[size] % LAPS
end

-- What the current product's HSET gets; the first two fields and their values are set at its end.
local writes, written = { 'total', '', 'current', '' }, 4

-- Buckets that are not current: {size, bucket, is new, negative, neutral, positive, sentiment}.
local older = {}

local function add_older(size, bucket, a, b, c, d)
  for _, each in ipairs(older) do
    if each[1] == size and each[2] == bucket then
      each[4], each[5], each[6], each[7] = each[4] + a, each[5] + b, each[6] + c, each[7] + d
      return
    end
  end
  older[#older + 1] = { size, bucket, false, a, b, c, d }
end

-- A bucket that the newest event has left behind goes to its slot, unless it is of no use there any more.
local function leave_behind(size, bucket, a, b, c, d)
  if a + b + c > 0 and (bucket + 1) * WIDTH_MS[size] > arrival_ms - KEEP_MS[size] then
    older[#older + 1] = { size, bucket, true, a, b, c, d }
  end
end

local function slot_of(each)
  return FIRST_SLOT[each[1]] + each[2] % SLOTS[each[1]]
end

-- Whether the slot is the bucket's: it is when it holds none, the same one, which is added, or an older one.
local function takes_slot(each, held)
  if not held then
    return true
  end
  local lap, a, b, c, d = unpack_struct(SHAPE_OF[#held], held)
  local behind = (lap_of(each[1], each[2]) - lap) % LAPS
  if behind == 0 then
    each[4], each[5], each[6], each[7] = each[4] + a, each[5] + b, each[6] + c, each[7] + d
  end
  return behind < LAPS / 2
end

local function pack_slot(size, bucket, _, a, b, c, d)
  local shape = LARGE
  if a < 256 and b < 256 and c < 256 and d >= -32768 and d < 32768 then
    shape = TINY
  elseif a < 65536 and b < 65536 and c < 65536 then
    shape = SMALL
  end
  return pack_struct(shape, lap_of(size, bucket), a, b, c, d)
end

local function write_older(key)
  local slots = {}
  for _, each in ipairs(older) do
    if not each[3] then
      slots[#slots + 1] = slot_of(each)
    end
  end
  local held = #slots > 0 and call('HMGET', key, unpack(slots)) or {}
  local n = 0
  for _, each in ipairs(older) do
    n = n + (each[3] and 0 or 1)
    if each[3] or takes_slot(each, held[n]) then
      writes[written + 1] = slot_of(each)
      writes[written + 2] = pack_slot(unpack(each))
      written = written + 2
    end
  end
  older = {}
end

-- Drops what no window reached any more at the event before this one, whose buckets are given. By that and not
-- by the newest event, for that one's clock may be wrong.
local function sweep(key, minute, hour, quarter)
  local newest, dead = { minute, hour, quarter }, {}
  local pairs_held = call('HGETALL', key)
  for n = 1, #pairs_held, 2 do
    local slot = tonumber(pairs_held[n])
    if slot then
      local size = (slot - slot % 100) / 100 + 1
      local lap = unpack_struct('<I2', pairs_held[n + 1])
      local behind = (lap_of(size, newest[size]) - lap) % LAPS
      -- The slots up to the newest bucket's were written in its lap, those after it in the one before.
      if behind > (slot % 100 > newest[size] % SLOTS[size] and 1 or 0) then
        dead[#dead + 1] = slot
      end
    end
  end
  if #dead > 0 then
    call('HDEL', key, unpack(dead))
  end
end

local taken = 0
local function take(length)
  local bytes = string.sub(ARGV[4], taken + 1, taken + length)
  taken = taken + length
  return bytes
end

-- What the products' spans come to: of the first group, which most steps have alone, and of each other one.
local f1, f2, f3, f4 = 0, 0, 0, 0
local others = {}

local function add_to_group(group, a, b, c, d)
  local sums = others[group]
  if sums then
    sums[1], sums[2], sums[3], sums[4] = sums[1] + a, sums[2] + b, sums[3] + c, sums[4] + d
  else
    others[group] = { a, b, c, d }
  end
end

-- Counts events of a product, or of the fleet, in its hash.
--
-- spans   {group, negative, neutral, positive, sentiment, ...}
-- at      where its first span begins there
-- Returns where the next product begins, and the minute of its newest event if that has moved on.
local function count(key, late, first_ms, last_ms, spans, at, number)
  local held = call('HMGET', key, 'total', 'current')
  local is_new = not held[1]

  -- Negative, neutral, positive and sentiment: all-time, and of the current minute, hour and quarter-day.
  local t1, t2, t3, t4, late_before, earliest_ms, latest_ms = 0, 0, 0, 0, 0, first_ms, last_ms
  local m1, m2, m3, m4, h1, h2, h3, h4, q1, q2, q3, q4 = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
  if not is_new then
    t1, t2, t3, t4, late_before, earliest_ms, latest_ms = unpack_struct(TOTAL, held[1])
    m1, m2, m3, m4, h1, h2, h3, h4, q1, q2, q3, q4 = unpack_struct(CURRENT, held[2])
  end
  if first_ms < earliest_ms then
    earliest_ms = first_ms
  end

  local minute = (latest_ms - latest_ms % 60000) / 60000
  local hour = (minute - minute % 60) / 60
  local quarter = (hour - hour % 6) / 6
  local has_moved = is_new
  if last_ms > latest_ms then
    latest_ms = last_ms
    local new_minute = (last_ms - last_ms % 60000) / 60000
    if new_minute > minute then
      has_moved = true
      local new_hour = (new_minute - new_minute % 60) / 60
      local new_quarter = (new_hour - new_hour % 6) / 6
      leave_behind(1, minute, m1, m2, m3, m4)
      m1, m2, m3, m4 = 0, 0, 0, 0
      if new_hour > hour then
        leave_behind(2, hour, h1, h2, h3, h4)
        h1, h2, h3, h4 = 0, 0, 0, 0
      end
      if new_quarter > quarter then
        leave_behind(3, quarter, q1, q2, q3, q4)
        q1, q2, q3, q4 = 0, 0, 0, 0
        sweep(key, minute, hour, quarter)
      end
      minute, hour, quarter = new_minute, new_hour, new_quarter
    end
  end

  for _ = 1, number do
    local group, a, b, c, d = unpack(spans, at, at + 4)
    local in_minute, in_hour, in_quarter = unpack(groups[group])
    at = at + 5
    if group == 1 then
      f1, f2, f3, f4 = f1 + a, f2 + b, f3 + c, f4 + d
    else
      add_to_group(group, a, b, c, d)
    end
    t1, t2, t3, t4 = t1 + a, t2 + b, t3 + c, t4 + d
    if in_minute == minute then
      m1, m2, m3, m4 = m1 + a, m2 + b, m3 + c, m4 + d
    elseif in_minute then
      add_older(1, in_minute, a, b, c, d)
    end
    if in_hour == hour then
      h1, h2, h3, h4 = h1 + a, h2 + b, h3 + c, h4 + d
    elseif in_hour then
      add_older(2, in_hour, a, b, c, d)
    end
    if in_quarter == quarter then
      q1, q2, q3, q4 = q1 + a, q2 + b, q3 + c, q4 + d
    elseif in_quarter then
      add_older(3, in_quarter, a, b, c, d)
    end
  end

  writes[2] = pack_struct(TOTAL, t1, t2, t3, t4, late_before + late, earliest_ms, latest_ms)
  writes[4] = pack_struct(CURRENT, m1, m2, m3, m4, h1, h2, h3, h4, q1, q2, q3, q4)
  written = 4
  if #older > 0 then
    write_older(key)
  end
  call('HSET', key, unpack(writes, 1, written))
  return at, has_moved and minute
end

local product_prefix, state_prefix = prefix .. 'product:', prefix .. 'spike:' .. channel .. ':'
local active, states = {}, {}
local fleet_late, fleet_first_ms, fleet_last_ms = 0, math.huge, 0
local at, stop = 1, #products
while at <= stop do
  local id, late, first_ms, last_ms, state_length, number = unpack(products, at, at + 5)
  fleet_late = fleet_late + late
  if first_ms < fleet_first_ms then
    fleet_first_ms = first_ms
  end
  if last_ms > fleet_last_ms then
    fleet_last_ms = last_ms
  end
  local moved_to
  at, moved_to = count(product_prefix .. id, late, first_ms, last_ms, products, at + 6, number)
  if moved_to then
    active[#active + 1] = moved_to * 60000
    active[#active + 1] = id
  end
  if state_length > 0 then
    states[#states + 1] = state_prefix .. id
    states[#states + 1] = take(state_length)
  end
end
if stop > 0 then
  local spans = { 1, f1, f2, f3, f4 }
  for group = 2, #groups do
    local n, sums = #spans, others[group]
    spans[n + 1], spans[n + 2], spans[n + 3], spans[n + 4], spans[n + 5] = group, unpack(sums)
  end
  count(prefix .. 'fleet', fleet_late, fleet_first_ms, fleet_last_ms, spans, 1, #groups)
end

for first = 1, #active, CHUNK do
  call('ZADD', KEYS[3], unpack(active, first, math.min(first + CHUNK - 1, #active)))
end
for first = 1, #states, CHUNK do
  call('MSET', unpack(states, first, math.min(first + CHUNK - 1, #states)))
end
for _, entry in ipairs(ledger) do
  call('HINCRBY', KEYS[2], entry[1], entry[2])
end
for _, length in ipairs(transitions) do
  call('XADD', KEYS[4], '*', 'partition', ARGV[1], 'alert', take(length))
end
for _, fingerprints in ipairs(seen) do
  call('APPEND', fingerprints[1], take(fingerprints[2]))
end
if #forgotten > 0 then
  call('UNLINK', unpack(forgotten))
end
if model ~= '' then
  -- Which model scored from which offset on: {{offset, version}, ...}.
  local noted = call('HGET', models, ARGV[1])
  local changes = noted and cjson.decode(noted) or {}
  if #changes == 0 or changes[#changes][2] ~= model then
    changes[#changes + 1] = { ARGV[2] + 1, model }
    if #changes > MODELS_NOTED then
      table.remove(changes, 1)
    end
    call('HSET', models, ARGV[1], cjson.encode(changes))
  end
end
call('HSET', KEYS[1], ARGV[1], last)
return false
