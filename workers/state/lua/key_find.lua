-- requires stamp
-- KEYS: digests; ARGV: digest, prefix of keys. A Redis that is full or read-only must still let keys in: hence pcall.

local id = redis.call('HGET', KEYS[1], ARGV[1])
if not id then return {} end
local found = redis.call('HGETALL', ARGV[2] .. id)
if #found == 0 then return {} end
local last = tonumber(redis.call('HGET', ARGV[2] .. id, 'last_used') or 0)
if now[1] - last >= 60 then redis.pcall('HSET', ARGV[2] .. id, 'last_used', now[1]) end
return found
