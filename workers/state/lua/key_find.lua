-- KEYS: digests
-- ARGV: digest, prefix of keys
-- Returns the key of a digest, and records the minute of its use: by pcall, since a Redis that is full or read-only
-- must not lock keys out.

local id = redis.call('HGET', KEYS[1], ARGV[1])
if not id then return {} end
local key = ARGV[2] .. id
local found = redis.call('HGETALL', key)
if #found == 0 then return {} end
local now, last = redis.call('TIME')[1], tonumber(redis.call('HGET', key, 'last_used') or 0)
if now - last >= 60 then redis.pcall('HSET', key, 'last_used', now) end
return found
