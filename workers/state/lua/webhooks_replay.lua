-- requires outbox
-- Makes messages due now, as if none had been tried.
--
-- ARGV: messages
-- Returns those that there are.

local found = {}
for _, message in ipairs(ARGV) do
  local key = message_key(message)
  local receiver, ttl = redis.call('HGET', key, 'receiver'), redis.call('TTL', key)
  if receiver then
    redis.call('EXPIRE', key, ttl)
    redis.call('HSET', key, 'tries', 0)
    redis.call('HDEL', key, 'lease')
    redis.call('ZREM', FAILED_WEBHOOKS, message)
    put_message(redis.call, receiver, message, redis.call('TIME')[1], ttl)
    table.insert(found, message)
  end
end
redis.call('PUBLISH', WEBHOOKS_CHANNEL, '')
return found
