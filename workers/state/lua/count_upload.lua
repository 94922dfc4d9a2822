-- requires once
-- KEYS: counter
-- ARGV: bytes to add, limit, TTL of the counter
-- Returns 0, or in how many seconds the counter expires.

return once(function(size, limit, ttl)
  local used = tonumber(redis.call('GET', KEYS[1]) or '0')
  if used + tonumber(size) > tonumber(limit) then return math.max(1, redis.call('TTL', KEYS[1])), false end
  redis.call('INCRBY', KEYS[1], size)
  if used == 0 then redis.call('EXPIRE', KEYS[1], ttl) end
  return 0
end)
