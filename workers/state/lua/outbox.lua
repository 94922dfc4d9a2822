-- The outbox: webhooks that are to be sent. Its keys, all of them with an expiry:
--
--   webhook:<message>    hash  a message, <request id>:<event>: receiver, tries, what came of the last one, its lease
--   webhooks:<receiver>  zset  messages for one receiver, by when they are due
--   webhooks             zset  receivers, by when the first of their messages is due
--   webhooks_failed      zset  messages that were given up, by when
--
-- A receiver is an owner and the origin of a URL. A message that is being sent is due again at the end of its lease, so
-- that another process sends it if the first one dies. It is written in the step that changes the state of its request,
-- and whatever the keys of the outbox hold, that step does not fail: hence pcall.

local WEBHOOKS, FAILED_WEBHOOKS = 'facelight:webhooks', 'facelight:webhooks_failed'
local WEBHOOKS_CHANNEL = '$WEBHOOKS_CHANNEL'

local function message_key(message) return 'facelight:webhook:' .. message end
local function outbox_key(receiver) return 'facelight:webhooks:' .. receiver end

-- Have an entry in a sorted set of the outbox, which lasts for `ttl` seconds at least.
local function put(call, key, score, member, ttl)
  call('ZADD', key, score, member)
  if call('TTL', key) < tonumber(ttl) then call('EXPIRE', key, ttl) end
end

local function put_message(call, receiver, message, due, ttl)
  put(call, outbox_key(receiver), due, message, ttl)
  put(call, WEBHOOKS, due, receiver, ttl)
end

-- A webhook, if the request asks for one of that event; it is due at once.
local function add_webhook(id, event, ttl)
  local url, events, receiver = unpack(redis.call(
    'HMGET', 'facelight:request:' .. id, 'webhook', 'webhook_events', 'webhook_receiver'))
  if not url or not string.find(',' .. (events or '') .. ',', ',' .. event .. ',', 1, true) then return end
  local message, now = id .. ':' .. event, redis.call('TIME')[1]
  redis.pcall('HSET', message_key(message), 'receiver', receiver, 'tries', 0, 'created_at', now)
  redis.pcall('EXPIRE', message_key(message), ttl)
  put_message(redis.pcall, receiver, message, now, ttl)
  redis.call('PUBLISH', WEBHOOKS_CHANNEL, '')
end
