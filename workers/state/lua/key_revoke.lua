-- requires key_common, once
-- ARGV: id or name. Returns the ids that it may mean; if it is one, the key is revoked.

return once(function(ARGV)
  local ids = ids_of(ARGV[1])
  if #ids ~= 1 then return ids end
  redis.call('HDEL', DIGESTS, redis.call('HGET', PREFIX .. ids[1], 'digest'))
  redis.call('DEL', PREFIX .. ids[1])
  return ids
end)
