-- requires outbox
-- Ends a lease with what came of it.
--
-- ARGV: message, lease, 'sent', 'later' or 'failed', seconds until the next try, what came of this one
-- A lease that another process has by now, or that was settled before, changes nothing. A message that would expire
-- before its next try has failed.

local message, lease, outcome, pause_s, answer = unpack(ARGV)
local key = message_key(message)
local receiver, held = unpack(redis.call('HMGET', key, 'receiver', 'lease'))
if held ~= lease then return end
local ttl, now = redis.call('TTL', key), redis.call('TIME')[1]
redis.call('EXPIRE', key, ttl)
redis.call('HDEL', key, 'lease')
if outcome == 'sent' then
  redis.call('DEL', key)
  redis.call('ZREM', outbox_key(receiver), message)
else
  redis.call('HINCRBY', key, 'tries', 1)
  redis.call('HSET', key, 'answer', answer, 'tried_at', now)
  if outcome == 'later' and tonumber(pause_s) < ttl then
    put(redis.call, outbox_key(receiver), now + pause_s, message, ttl)
  else
    redis.call('ZREM', outbox_key(receiver), message)
    put(redis.call, FAILED_WEBHOOKS, now, message, ttl)
  end
end
local first = redis.call('ZRANGE', outbox_key(receiver), 0, 0, 'WITHSCORES')[2]
if first then
  put(redis.call, WEBHOOKS, first, receiver, ttl)
else
  redis.call('ZREM', WEBHOOKS, receiver)
end
