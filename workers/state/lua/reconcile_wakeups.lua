-- requires common, once
-- ARGV: slug, variant, time to live of a token, how many are added at most, how many too many are left. Returns how
-- many were added.

return once(function(ARGV)
  local slug, variant, ttl, refill, surplus = unpack(ARGV)
  local waiting, tokens = redis.call('ZCARD', waiting_of(slug, variant)), redis.call('LLEN', tokens_of(slug, variant))
  local missing = math.max(0, math.min(waiting - tokens, refill))
  for number = 1, missing do put_token(slug, variant, stamp() .. '-' .. number, ttl) end
  if tokens > waiting + surplus then redis.call('LTRIM', tokens_of(slug, variant), 0, waiting + surplus - 1) end
  return missing, missing > 0
end)
