-- requires common
-- QUEUED to PROCESSING: the head of the first queue that has one, and those behind it with the same batch_hint.
--
-- KEYS: the worker's last claim
-- ARGV: worker, claim id, TTL of what is unfinished, size at most, wakeup that the worker popped or '', 1 for requests
--       on their first attempt only; slug, variant, ... of the queues, in the order in which to look
-- Returns id and record of each.
--
-- A claim removes a wakeup for every request, the popped one included: an empty list means that other workers were
-- notified already. A batch is larger than 1 only while the queue is long: at most one more than an eighth of the
-- waiting requests, so a short queue is served in order and at once. A claim that is sent again, its reply being lost,
-- has the same reply. Requests whose record is of a newer version stay in the queue, for newer workers.
--
-- While the operator has suspended the workers nothing is claimed, and a wakeup that was popped is put back: RQ's loop
-- looks for the suspension before it waits for a wakeup, not after.

local last_claim = KEYS[1]
local worker, claim_id, ttl, max_size, wakeup, first_attempt_only = unpack(ARGV, 1, 6)
-- A worker without a reply for so long does not get the same requests again; the janitor requeues them.
local CLAIM_TTL_S = 600
-- So many requests of a newer version at the head of the queue hide those behind them.
local MAX_LEFT = 100

local function head(slug, variant)
  local left = 0
  while left < MAX_LEFT do
    local member = redis.call('ZRANGE', waiting_key(slug, variant), left, left)[1]
    if not member then return nil end
    local owner, id = string.match(member, '^%d+:(.*):([^:]+)$')
    local status, attempt, batch_hint, version =
      unpack(redis.call('HMGET', record_key(id), 'status', 'attempt', 'batch_hint', 'version'))
    if status ~= 'QUEUED' then
      dequeue(slug, variant, owner, member)
    elseif tonumber(version or 1) > RECORD_VERSION then
      left = left + 1
    else
      return {id = id, owner = owner, member = member, is_new = attempt == '0', batch_hint = batch_hint or ''}
    end
  end
end

local function begin_attempt(slug, variant, request)
  local record = record_key(request.id)
  dequeue(slug, variant, request.owner, request.member)
  redis.call('HSET', record, 'status', 'PROCESSING', 'worker', worker, 'started_at', timestamp())
  local attempt = redis.call('HINCRBY', record, 'attempt', 1)
  redis.call('EXPIRE', record, ttl)
  redis.call('HSET', RUNNING, request.id, worker)
  redis.call('EXPIRE', RUNNING, ttl)
  if attempt == 1 then add_webhook(request.id, 'started', ttl) end
  tell_of_change(request.id)
end

local function begin_batch(slug, variant, first)
  local size = math.min(max_size, 1 + math.floor(redis.call('ZCARD', waiting_key(slug, variant)) / 8))
  local ids, request = {}, first
  repeat
    begin_attempt(slug, variant, request)
    table.insert(ids, request.id)
    request = #ids < size and first.is_new and first.batch_hint ~= '' and head(slug, variant)
  until not request or not request.is_new or request.batch_hint ~= first.batch_hint
  return ids
end

local function records_of(ids)
  local found = {}
  for _, id in ipairs(ids) do
    local status, claimed_by = unpack(redis.call('HMGET', record_key(id), 'status', 'worker'))
    if status == 'PROCESSING' and claimed_by == worker then
      table.insert(found, {id, redis.call('HGETALL', record_key(id))})
    end
  end
  return found
end

local last = {}
for word in string.gmatch(redis.call('GET', last_claim) or '', '%S+') do table.insert(last, word) end
if table.remove(last, 1) == claim_id then return records_of(last) end
if redis.call('EXISTS', 'rq:suspended') == 1 then
  if wakeup ~= '' then redis.pcall('LPUSH', wakeups_key(ARGV[7], ARGV[8]), wakeup) end
  return {}
end
if wakeup ~= '' then redis.call('DEL', wakeup_job_key(wakeup)) end
for number = 7, #ARGV, 2 do
  local slug, variant = ARGV[number], ARGV[number + 1]
  local may_claim = wakeup ~= '' or redis.call('EXISTS', wakeups_key(slug, variant)) == 1
  local first = may_claim and head(slug, variant)
  if first and (first.is_new or first_attempt_only ~= '1') then
    local ids = begin_batch(slug, variant, first)
    remove_wakeups(slug, variant, wakeup == '' and #ids or #ids - 1)
    redis.call('SET', last_claim, claim_id .. ' ' .. table.concat(ids, ' '), 'EX', CLAIM_TTL_S)
    return records_of(ids)
  end
end
return {}
