-- requires key_common, once
-- ARGV: id or name
-- Returns the ids that it may mean; if it is one, the key is revoked.

return once(function(id_or_name)
  local ids = ids_of(id_or_name)
  if #ids ~= 1 then return ids end
  local key = PREFIX .. ids[1]
  redis.call('HDEL', DIGESTS, redis.call('HGET', key, 'digest'))
  redis.call('DEL', key)
  return ids
end)
