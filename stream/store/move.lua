-- A stored offset is put elsewhere, because the log is not what it was. One atomic step of one partition and
-- shard, and only if the offset is still the one that was seen: whoever applied something meanwhile wins.
--
-- KEYS    offsets, missing; then keys of fingerprints: to be dropped, or pairs of old and new names
-- ARGV[1] the field that holds the offset
-- ARGV[2] the offset seen, -1 for none
-- ARGV[3] the field that is to hold it; another one than ARGV[1] when the log gets a name
-- ARGV[4] the offset to store
-- ARGV[5] '1' when the offsets between are missing, and to be listed
-- ARGV[6] what the mark of erasures is raised by, 0 where the log only gets a name
-- Returns whether it was done, as 1 or 0. Offsets that are marked (see layout.py) are not touched.

local LONGEST = 4000 -- bytes of a partition's list of missing ranges: some 200, then the oldest go

local call = redis.call
if call('HEXISTS', KEYS[1], 'moved') == 1 then
  return 0
end
if tonumber(call('HGET', KEYS[1], ARGV[1]) or -1) ~= tonumber(ARGV[2]) then
  return 0
end
local is_renamed = ARGV[1] ~= ARGV[3]
if is_renamed then
  if call('HEXISTS', KEYS[1], ARGV[3]) == 1 then
    return 0
  end
  call('HDEL', KEYS[1], ARGV[1])
end
call('HSET', KEYS[1], ARGV[3], ARGV[4])
if ARGV[6] ~= '0' then
  call('HINCRBY', KEYS[1], 'erased', ARGV[6])
end

local first, last = tonumber(ARGV[2]) + 1, tonumber(ARGV[4])
if ARGV[5] == '1' then
  local list = call('HGET', KEYS[2], ARGV[3])
  local range = string.format('%d-%d', first, last)
  list = list and list .. ' ' .. range or range
  while #list > LONGEST do
    list = string.sub(list, string.find(list, ' ', 1, true) + 1)
  end
  call('HSET', KEYS[2], ARGV[3], list)
end

for n = 3, #KEYS, is_renamed and 2 or 1 do
  if not is_renamed then
    call('UNLINK', KEYS[n])
  elseif call('EXISTS', KEYS[n]) == 1 then
    call('RENAME', KEYS[n], KEYS[n + 1])
  end
end
return 1
