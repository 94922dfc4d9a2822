-- requires common
-- Enqueues a new request, takes its credits and adds a wakeup.
--
-- KEYS: record, key of the owner, and, if there is an Idempotency-Key, its hash
-- ARGV: id, slug, variant, owner, params, cost, TTL of what is unfinished, limit of the model or '', limit of the owner
--       or '', fingerprint or '', batch_hint, context of a trace or '', URL of a webhook or '', its events, receiver,
--       base URL; variants of the model, ...
-- Returns an outcome, and the id of the request that represents the call, or the credits that are left.

local record, account, idempotency = unpack(KEYS)
local id, slug, variant, owner, params, cost, ttl, limit, owner_limit, fingerprint, batch_hint, traceparent =
  unpack(ARGV, 1, 12)
local webhook, webhook_events, webhook_receiver, webhook_base = unpack(ARGV, 13, 16)
if redis.call('EXISTS', record) == 1 then return {'accepted', id} end
if idempotency then
  local known, known_fingerprint = unpack(redis.call('HMGET', idempotency, 'request', 'fingerprint'))
  if known and redis.call('EXISTS', record_key(known)) == 1 then
    return {known_fingerprint == fingerprint and 'accepted' or 'conflict', known}
  end
end
local total, own = 0, 0
for number = 17, #ARGV do
  total = total + redis.call('ZCARD', waiting_key(slug, ARGV[number]))
  own = own + redis.call('ZCARD', owner_queue_key(slug, ARGV[number], owner))
end
if limit ~= '' and total >= tonumber(limit) then return {'full', ''} end
if owner_limit ~= '' and own >= tonumber(owner_limit) then return {'owner is full', ''} end
if not is_metered(owner) then cost = '0' end
local credits = redis.call('HGET', account, 'credits')
if tonumber(cost) > 0 and tonumber(credits) < tonumber(cost) then return {'out of credits', credits} end

local now, ticket = timestamp(), string.format('%015d', redis.call('INCR', TICKETS))
redis.call('HSET', record, 'status', 'QUEUED', 'attempt', 0, 'created_at', now, 'queued_at', now, 'slug', slug,
           'variant', variant, 'owner', owner, 'params', params, 'cost', cost, 'ticket', ticket,
           'batch_hint', batch_hint, 'version', RECORD_VERSION)
if webhook ~= '' then
  redis.call('HSET', record, 'webhook', webhook, 'webhook_events', webhook_events, 'webhook_receiver', webhook_receiver,
             'webhook_base', webhook_base)
end
redis.call('SET', VERSION, QUEUE_VERSION, 'EX', ttl)
redis.call('ZADD', OPEN, now, id)
if traceparent ~= '' then redis.call('HSET', record, 'traceparent', traceparent) end
redis.call('HINCRBY', COUNTS, slug .. ':accepted', 1)
if tonumber(cost) > 0 then
  redis.call('HINCRBYFLOAT', account, 'credits', '-' .. cost)
  redis.call('HINCRBYFLOAT', COUNTS, slug .. ':charged', cost)
end
local last = redis.call('ZREVRANGE', owner_queue_key(slug, variant, owner), 0, 0, 'WITHSCORES')[2] or 0
local virtual_start = math.max(math.ceil(virtual_time(waiting_key(slug, variant))), math.floor(last) + 1)
enqueue(slug, variant, owner, member_of(ticket, owner, id), virtual_start, ttl)
if idempotency then
  redis.call('HSET', idempotency, 'request', id, 'fingerprint', fingerprint)
  redis.call('EXPIRE', idempotency, ttl)
end
for _, key in ipairs({record, OPEN, TICKETS}) do redis.call('EXPIRE', key, ttl) end
add_wakeup(slug, variant, ticket, ttl)
return {'accepted', id}
