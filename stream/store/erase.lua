-- Forgets a product: counters, detector states, its place among the active ones, its transitions on their way. One
-- atomic step, which also refuses every step of a worker that remembers any of it (see stream/store/contract.py).
--
-- KEYS    offsets, active, outbox, withheld, product, then its detector states
-- ARGV[1] the product's id
-- ARGV[2] '1' where nothing is to be changed, only counted
-- ARGV[3] what the mark of erasures is raised by
-- Returns {keys removed, whether it was among the active ones, transitions removed, ids of their alerts, ...}

local call = redis.call
call('EXISTS', unpack(KEYS)) -- in a cluster: all of it is here, or nothing is done
local dry = ARGV[2] == '1'
local held = { call('EXISTS', unpack(KEYS, 5)), call('ZSCORE', KEYS[2], ARGV[1]) and 1 or 0, 0 }
for n = 3, 4 do
  for _, entry in ipairs(call('XRANGE', KEYS[n], '-', '+')) do
    for k = 1, #entry[2], 2 do
      if entry[2][k] == 'alert' then
        local known, alert = pcall(cjson.decode, entry[2][k + 1])
        if known and alert.product_id == ARGV[1] then
          held[3] = held[3] + 1
          held[#held + 1] = alert.id
          if not dry then
            call('XDEL', KEYS[n], entry[1])
          end
        end
      end
    end
  end
end
if not dry then
  call('HINCRBY', KEYS[1], 'erased', ARGV[3])
  call('UNLINK', unpack(KEYS, 5))
  call('ZREM', KEYS[2], ARGV[1])
end
return held
