-- requires common, once
-- Has about as many wakeups as waiting requests for a queue.
--
-- ARGV: slug, variant, TTL of a wakeup, how many are added at most, how many more than requests are left in place
-- Returns how many were added.

return once(function(slug, variant, ttl, max_added, max_surplus)
  local list = wakeups_key(slug, variant)
  local waiting, wakeups = redis.call('ZCARD', waiting_key(slug, variant)), redis.call('LLEN', list)
  local missing = math.max(0, math.min(waiting - wakeups, max_added))
  for number = 1, missing do add_wakeup(slug, variant, timestamp() .. '-' .. number, ttl) end
  if wakeups > waiting + max_surplus then redis.call('LTRIM', list, 0, waiting + max_surplus - 1) end
  return missing, missing > 0
end)
