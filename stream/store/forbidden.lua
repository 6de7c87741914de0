-- Which of these commands the user of this connection may not run on a shard's keys: {name, ...}.
--
-- KEYS[1] a key of the shard
-- ARGV    names of commands; of some all arguments are keys, so the key is each of three
--
-- Redis looks a script's commands up when each is called, so a missing permission shows half way. Before Redis 7
-- there is no way to ask; then nothing is said to be forbidden.

local forbidden = {}
if redis.acl_check_cmd then
  for _, name in ipairs(ARGV) do
    if not redis.acl_check_cmd(name, KEYS[1], KEYS[1], KEYS[1]) then
      forbidden[#forbidden + 1] = name
    end
  end
end
return forbidden
