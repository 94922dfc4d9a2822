-- requires key_common, stamp
-- ARGV: id, digest, name, field, value, ... Returns ids of the keys that have the name already, and the new key. Sent
-- again, it is told by its id.

local key = PREFIX .. ARGV[1]
if redis.call('EXISTS', key) == 0 then
  local taken = ids_of_name(ARGV[3])
  if #taken > 0 then return {taken, {}} end
  redis.call('HSET', key, 'id', ARGV[1], 'digest', ARGV[2], 'created_at', stamp, 'name', unpack(ARGV, 3))
  redis.call('HSET', DIGESTS, ARGV[2], ARGV[1])
end
return {{}, redis.call('HGETALL', key)}
