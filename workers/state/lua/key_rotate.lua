-- requires key_common, once
-- ARGV: id or name, new digest
-- Returns the ids that it may mean; if it is one, that key has the new digest.

return once(function(id_or_name, digest)
  local ids = ids_of(id_or_name)
  if #ids ~= 1 then return ids end
  local key = PREFIX .. ids[1]
  redis.call('HDEL', DIGESTS, redis.call('HGET', key, 'digest'))
  redis.call('HSET', key, 'digest', digest)
  redis.call('HSET', DIGESTS, digest, ids[1])
  return ids
end)
