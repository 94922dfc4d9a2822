-- requires key_common
-- ARGV: id, digest, name, field, value, ...
-- Returns the ids of keys that have the name already, and the new key. Sent again, it is recognised by its id.

local id, digest, name = unpack(ARGV, 1, 3)
local key = PREFIX .. id
if redis.call('EXISTS', key) == 0 then
  local taken = ids_of_name(name)
  if #taken > 0 then return {taken, {}} end
  local now = redis.call('TIME')
  local created_at = now[1] .. '.' .. string.format('%06d', now[2])
  redis.call('HSET', key, 'id', id, 'digest', digest, 'created_at', created_at, 'name', unpack(ARGV, 3))
  redis.call('HSET', DIGESTS, digest, id)
end
return {{}, redis.call('HGETALL', key)}
