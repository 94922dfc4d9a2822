-- requires key_common, once
-- ARGV: id or name, new digest. Returns the ids that it may mean; if it is one, that key has the new digest.

return once(function(ARGV)
  local ids = ids_of(ARGV[1])
  if #ids ~= 1 then return ids end
  redis.call('HDEL', DIGESTS, redis.call('HGET', PREFIX .. ids[1], 'digest'))
  redis.call('HSET', PREFIX .. ids[1], 'digest', ARGV[2])
  redis.call('HSET', DIGESTS, ARGV[2], ids[1])
  return ids
end)
