-- Changes a field of some entries of a stream. Ids and order stay, so who reads on from an id misses nothing.
--
-- KEYS    a stream
-- ARGV    the field, then id and new value of each entry to be changed
-- Returns how many of them are still there, and were changed

local call = redis.call
local entries, edits, done = call('XRANGE', KEYS[1], '-', '+'), {}, 0
for n = 2, #ARGV, 2 do
  edits[ARGV[n]] = ARGV[n + 1]
end
for _, entry in ipairs(entries) do
  if edits[entry[1]] then
    done = done + 1
  end
end
if done == 0 then
  return 0
end
call('DEL', KEYS[1])
for _, entry in ipairs(entries) do
  for k = 1, #entry[2], 2 do
    if entry[2][k] == ARGV[1] and edits[entry[1]] then
      entry[2][k + 1] = edits[entry[1]]
    end
  end
  call('XADD', KEYS[1], entry[1], unpack(entry[2]))
end
return done
