-- requires common
-- ARGV: id, slug, variant, owner, params, cost, time to live, limit of the model or '', limit of the owner or '',
-- key for idempotency or '', fingerprint, batch_hint, variants of the model, ...

local id, slug, variant, owner, params, cost, ttl = unpack(ARGV, 1, 7)
if redis.call('EXISTS', record_of(id)) == 1 then return {'accepted', id} end
if ARGV[10] ~= '' then
  local known, fingerprint = unpack(redis.call('HMGET', ARGV[10], 'request', 'fingerprint'))
  if known and redis.call('EXISTS', record_of(known)) == 1 then
    return {fingerprint == ARGV[11] and 'accepted' or 'conflict', known}
  end
end
local total, own = 0, 0
for number = 13, #ARGV do
  total = total + redis.call('ZCARD', waiting_of(slug, ARGV[number]))
  own = own + redis.call('ZCARD', line_of(slug, ARGV[number], owner))
end
if ARGV[8] ~= '' and total >= tonumber(ARGV[8]) then return {'full', ''} end
if ARGV[9] ~= '' and own >= tonumber(ARGV[9]) then return {'owner is full', ''} end
if not is_metered(owner) then cost = '0' end
local credits = redis.call('HGET', account_of(owner), 'credits')
if tonumber(cost) > 0 and tonumber(credits) < tonumber(cost) then return {'out of credits', credits} end

local now, ticket = stamp(), string.format('%015d', redis.call('INCR', TICKETS))
redis.call('HSET', record_of(id), 'status', 'QUEUED', 'attempt', 0, 'created_at', now, 'queued_at', now, 'slug', slug,
           'variant', variant, 'owner', owner, 'params', params, 'cost', cost, 'ticket', ticket, 'batch_hint', ARGV[12])
redis.call('ZADD', OPEN, now, id)
if tonumber(cost) > 0 then redis.call('HINCRBYFLOAT', account_of(owner), 'credits', '-' .. cost) end
local last = redis.call('ZREVRANGE', line_of(slug, variant, owner), 0, 0, 'WITHSCORES')[2] or 0
local turn = math.max(math.ceil(turn_of_head(waiting_of(slug, variant))), math.floor(last) + 1)
enter(slug, variant, owner, member_of(ticket, owner, id), turn, ttl)
if ARGV[10] ~= '' then
  redis.call('HSET', ARGV[10], 'request', id, 'fingerprint', ARGV[11])
  redis.call('EXPIRE', ARGV[10], ttl)
end
for _, key in ipairs({record_of(id), OPEN, TICKETS}) do redis.call('EXPIRE', key, ttl) end
put_token(slug, variant, ticket, ttl)
return {'accepted', id}
