-- Puts other detector states in the place of some: each only where it is still the one that was read. One atomic
-- step, which also refuses every step of a worker that remembers any of them (see stream/store/contract.py).
--
-- KEYS    offsets, then detector states
-- ARGV    what the mark of erasures is raised by; of each state what it must hold still, and what it is to hold
-- Returns how many were replaced

local call = redis.call
call('EXISTS', unpack(KEYS)) -- in a cluster: all of it is here, or nothing is done
local done = 0
for n = 2, #KEYS do
  if call('GET', KEYS[n]) == ARGV[2 * n - 2] then
    call('SET', KEYS[n], ARGV[2 * n - 1])
    done = done + 1
  end
end
if done > 0 then
  call('HINCRBY', KEYS[1], 'erased', ARGV[1])
end
return done
