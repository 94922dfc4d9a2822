-- requires once
-- KEYS: counter. ARGV: bytes to add, limit, seconds the counter lives. Returns 0, or in how many seconds it ends.

return once(function(ARGV)
  local used = tonumber(redis.call('GET', KEYS[1]) or '0')
  if used + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return math.max(1, redis.call('TTL', KEYS[1])), false end
  redis.call('INCRBY', KEYS[1], ARGV[1])
  if used == 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
  return 0
end)
