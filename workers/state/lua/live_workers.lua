-- KEYS: names; ARGV: prefix of workers. Every submission asks this, so it is one round trip.

local names, keys = redis.call('SMEMBERS', KEYS[1]), {}
for number, name in ipairs(names) do keys[number] = ARGV[1] .. name end
return {names, #names > 0 and redis.call('MGET', unpack(keys)) or {}}
