-- The one atomic step: counters, detector states, ledger, outbox and offset of one partition on one shard.
--
-- KEYS    offsets, ledger, active, outbox
-- ARGV[1] partition, "topic:number"
-- ARGV[2] base: the offset this step builds on, -1 for none
-- ARGV[3] msgpack: {last, prefix, channel, arrival_ms, ledger, products, transitions, seen, forgotten, clustered}
--           ledger       {{field, count}, ...}
--           products     {{id, late, first_ms, last_ms, state length, {{fields, counts}, ...}}, ...}
--           transitions  {length, ...}
--           seen         {{key, length of its fingerprints}, ...}
--           forgotten    {key, ...}
--           clustered    whether this is a node of a cluster
-- ARGV[4] the detector states of the products (length 0: leave the stored one), then the transitions' JSON,
--         then the fingerprints, end to end: Lua's msgpack knows no binary type
-- Returns false when applied, the offset that is stored instead of the base, or -2 when the counters are moved
-- to another generation (see stream/store/layout.py).
--
-- A lower stored offset means Redis lost writes (a gap), a higher one that somebody else applied them (a
-- duplicate, a zombie). Either way nothing is written, and the worker goes by what is stored.

local found = redis.call('HMGET', KEYS[1], ARGV[1], 'moved')
if found[2] then
  return -2
end
local stored = tonumber(found[1] or -1)
if stored ~= tonumber(ARGV[2]) then
  return stored
end

local MAX_FIELDS = 124 -- see stream/core/buckets.py; Redis never turns a hash that grew back into a listpack
local CODES = 4
local WIDTH_MS = { [0] = 60000, [1] = 3600000, [2] = 21600000 }
local KEEP_MS = { [0] = 3600000, [1] = 86400000, [2] = 604800000 }
local CHUNK = 2000 -- arguments of one call; Lua's stack holds some 8,000

local last, prefix, channel, arrival_ms, ledger, products, transitions, seen, forgotten, clustered =
  unpack(cmsgpack.unpack(ARGV[3]))
local unpack_msg, pack_msg, call = cmsgpack.unpack, cmsgpack.pack, redis.call

-- While a slot is on its way to another master, key by key, a script ends at the first key that is not here: half
-- done, without its offset, to be counted twice. So every key is touched before anything is written; EXISTS ends
-- the script then, too, and the worker waits until the slot has arrived.
if clustered then
  local touched = { unpack(KEYS) }
  for _, product in ipairs(products) do
    touched[#touched + 1] = prefix .. 'product:' .. product[1]
    touched[#touched + 1] = product[5] > 0 and prefix .. 'spike:' .. channel .. ':' .. product[1] or nil
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

local function prune(key)
  local expired = {}
  for _, field in ipairs(call('HKEYS', key)) do
    local number = tonumber(field)
    if number then
      local code = number % CODES
      local index = (number - code) / CODES
      if (index + 1) * WIDTH_MS[code] <= arrival_ms - KEEP_MS[code] then
        expired[#expired + 1] = field
      end
    end
  end
  if #expired > 0 then
    call('HDEL', key, unpack(expired))
  end
end

-- The sums this step adds, by field name, and those names in the order they came.
local function sums_of(spans)
  local total, sums, names = { 0, 0, 0, 0 }, {}, {}
  for _, span in ipairs(spans) do
    local counts = span[2]
    for i = 1, 4 do
      total[i] = total[i] + counts[i]
    end
    for _, name in ipairs(span[1]) do
      local sum = sums[name]
      if sum then
        for i = 1, 4 do
          sum[i] = sum[i] + counts[i]
        end
      else
        sums[name] = { counts[1], counts[2], counts[3], counts[4] }
        names[#names + 1] = name
      end
    end
  end
  return total, sums, names
end

local taken = 0
local function take(length)
  local bytes = string.sub(ARGV[4], taken + 1, taken + length)
  taken = taken + length
  return bytes
end

local active, states = {}, {}
for _, product in ipairs(products) do
  local id, late, first_ms, last_ms, state_length, spans = unpack(product)
  local key = prefix .. 'product:' .. id
  local total, sums, names = sums_of(spans)
  local found = call('HMGET', key, 'total', unpack(names))

  total[5], total[6], total[7] = late, first_ms, last_ms
  if found[1] then
    local before = unpack_msg(found[1])
    for i = 1, 5 do
      total[i] = total[i] + before[i]
    end
    total[6] = math.min(first_ms, before[6])
    total[7] = math.max(last_ms, before[7])
  end
  local writes = { 'total', pack_msg(total) }
  local new = found[1] and 0 or 1
  for n, name in ipairs(names) do
    local sum = sums[name]
    if found[n + 1] then
      local before = unpack_msg(found[n + 1])
      for i = 1, 4 do
        sum[i] = sum[i] + before[i]
      end
    else
      new = new + 1
    end
    writes[#writes + 1] = name
    writes[#writes + 1] = pack_msg(sum)
  end
  if new > 0 and call('HLEN', key) + new > MAX_FIELDS then
    prune(key)
  end
  call('HSET', key, unpack(writes))
  active[#active + 1] = last_ms
  active[#active + 1] = id
  if state_length > 0 then
    states[#states + 1] = prefix .. 'spike:' .. channel .. ':' .. id
    states[#states + 1] = take(state_length)
  end
end

for first = 1, #active, CHUNK do
  call('ZADD', KEYS[3], 'GT', unpack(active, first, math.min(first + CHUNK - 1, #active)))
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
call('HSET', KEYS[1], ARGV[1], last)
return false
