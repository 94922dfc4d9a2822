-- requires common
-- ARGV: worker, name of the call, time to live, how many at most, token that is held or '', 1 if only requests that
-- were never tried; slug, variant, ... of the queues to look at, in this order. A worker takes a token for every request, the
-- one that it holds included: where none is left, other workers are on their way. Requests of one batch_hint are taken
-- together while many wait: at most one more than an eighth of them, so a short queue is served in order and at once. A
-- call that is sent again because its answer got lost gets the same answer.

local worker, call, ttl, most, token, fresh = unpack(ARGV, 1, 6)
local TAKEN = 'facelight:taken:' .. worker
-- A worker that hears no answer for so long is not given the same requests again; the janitor finds them.
local CALL_COUNTS_S = 600

local function head(slug, variant)
  while true do
    local member = redis.call('ZRANGE', waiting_of(slug, variant), 0, 0)[1]
    if not member then return nil end
    local owner, id = string.match(member, '^%d+:(.*):([^:]+)$')
    local status, attempt, batch_hint = unpack(redis.call('HMGET', record_of(id), 'status', 'attempt', 'batch_hint'))
    if status == 'QUEUED' then
      return {id = id, owner = owner, member = member, new = attempt == '0', batch_hint = batch_hint or ''}
    end
    leave(slug, variant, owner, member)
  end
end

local function begin(slug, variant, found)
  local key = record_of(found.id)
  leave(slug, variant, found.owner, found.member)
  redis.call('HSET', key, 'status', 'PROCESSING', 'worker', worker, 'started_at', stamp())
  redis.call('HINCRBY', key, 'attempt', 1)
  redis.call('EXPIRE', key, ttl)
  redis.call('HSET', RUNNING, found.id, worker)
  redis.call('EXPIRE', RUNNING, ttl)
end

local function begin_alike(slug, variant, first)
  local room = math.min(most, 1 + math.floor(redis.call('ZCARD', waiting_of(slug, variant)) / 8))
  local ids, found = {}, first
  repeat
    begin(slug, variant, found)
    table.insert(ids, found.id)
    found = #ids < room and first.new and first.batch_hint ~= '' and head(slug, variant)
  until not found or not found.new or found.batch_hint ~= first.batch_hint
  return ids
end

local function answer(ids)
  local held = {}
  for _, id in ipairs(ids) do
    local status, by = unpack(redis.call('HMGET', record_of(id), 'status', 'worker'))
    if status == 'PROCESSING' and by == worker then
      table.insert(held, {id, redis.call('HGETALL', record_of(id))})
    end
  end
  return held
end

local words = {}
for word in string.gmatch(redis.call('GET', TAKEN) or '', '%S+') do table.insert(words, word) end
if table.remove(words, 1) == call then return answer(words) end
if token ~= '' then
  redis.call('DEL', TOKENS .. token)
elseif redis.call('EXISTS', 'rq:suspended') == 1 then
  return {}
end
for number = 7, #ARGV, 2 do
  local slug, variant = ARGV[number], ARGV[number + 1]
  local first = (token ~= '' or redis.call('EXISTS', tokens_of(slug, variant)) == 1) and head(slug, variant)
  if first and (first.new or fresh ~= '1') then
    local ids = begin_alike(slug, variant, first)
    pop_tokens(slug, variant, token == '' and #ids or #ids - 1)
    redis.call('SET', TAKEN, call .. ' ' .. table.concat(ids, ' '), 'EX', CALL_COUNTS_S)
    return answer(ids)
  end
end
return {}
