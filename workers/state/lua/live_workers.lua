-- KEYS: names of all workers
-- ARGV: prefix of their reports
-- Returns names, and for each its report, or nil if that has expired. One round trip, since every submission asks.

local names, keys = redis.call('SMEMBERS', KEYS[1]), {}
for number, name in ipairs(names) do keys[number] = ARGV[1] .. name end
return {names, #names > 0 and redis.call('MGET', unpack(keys)) or {}}
