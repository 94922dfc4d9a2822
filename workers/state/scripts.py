"""The steps of a request as Lua: Redis takes each of them as a whole, or not at all.

What they keep, all of it below `facelight:` and with an expiry:

    request:<id>                     hash    the record; see `workers.state.records`
    waiting:<slug>:<variant>         zset    who waits for a worker, by turn: the queue
    line:<slug>:<variant>:<owner>    zset    the same requests again, those of one owner
    running                          hash    id → worker of all requests that workers have in hand
    taken:<worker>                   string  what its last call of TAKE was given: the call's name, then ids
    answer:<call>                    string  what a call was answered that must be made once; see `workers.state.once`
    open                             zset    ids of all requests that have not ended, by the time they were accepted
    tickets                          string  counts all requests
    idempotency:<owner>:<digest>     hash    the request that stands for all calls with one Idempotency-Key

Owners take turns (start-time fair queueing, Goyal, Vin, Cheng 1996): a request's turn is one behind the last of its
owner, or that of the head of the queue if its owner has none waiting. The least turn is served first, and within a turn
the one that came first. So one request of an owner does not wait for a thousand of another. The turn of a cancelled
request passes unused. Who has lost a worker comes before all others.

Beside the queue lies a list of tokens, an RQ queue, which wakes a worker: see `workers.state.queue`. Whoever writes a
request into the queue puts a token there in the same step. What RQ's own keys hold never stops a step.

A member of `waiting` and `line` is `<ticket>:<owner>:<id>`, tickets being numbers that grow and have the same length.

A Redis that is full (noeviction) refuses only the first write of a script, and only one that may need memory. So every
step of a request that is already there begins with EXPIRE: what was accepted can end, and what is new is refused.
"""

from __future__ import annotations

from typing import Final

from workers.state.once import once

FINISHED_CHANNEL: Final = "facelight:finished"
"""Redis publishes the id of every request here as it becomes COMPLETED or FAILED."""
CANCELLED: Final = "The request was cancelled."
OVERDUE: Final = "The request has waited too long for a worker."
_JOB: Final = '["workers.engine.stages.RequestStages", null, [], {}]'
"""What a token names as its function, for people who look at RQ."""
_CALL_COUNTS_S: Final = 600
"""A worker that hears no answer for so long is not given the same requests again; the janitor finds them."""

COMMON: Final = f"""
local CANCELLED, CHANNEL, JOB = '{CANCELLED}', '{FINISHED_CHANNEL}', '{_JOB}'
local OPEN, RUNNING, TICKETS = 'facelight:open', 'facelight:running', 'facelight:tickets'
local TOKENS = 'rq:job:'
local function tokens_of(slug, variant) return 'rq:queue:facelight-' .. slug .. '-' .. variant end
local function record_of(id) return 'facelight:request:' .. id end
local function account_of(owner) return 'facelight:key:' .. owner end
local function waiting_of(slug, variant) return 'facelight:waiting:' .. slug .. ':' .. variant end
local function line_of(slug, variant, owner) return 'facelight:line:' .. slug .. ':' .. variant .. ':' .. owner end
local function member_of(ticket, owner, id) return ticket .. ':' .. owner .. ':' .. id end

local function stamp()
  local now = redis.call('TIME')
  return now[1] .. '.' .. string.format('%06d', now[2])
end

local function turn_of_head(waiting)
  return tonumber(redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')[2] or 1)
end

local function enter(slug, variant, owner, member, turn, ttl)
  for _, key in ipairs({{waiting_of(slug, variant), line_of(slug, variant, owner)}}) do
    redis.call('ZADD', key, turn, member)
    redis.call('EXPIRE', key, ttl)
  end
end

-- Before all others: who waited once already, and lost its worker.
local function enter_in_front(slug, variant, owner, member, ttl)
  enter(slug, variant, owner, member, math.ceil(turn_of_head(waiting_of(slug, variant))) - 0.5, ttl)
end

local function leave(slug, variant, owner, member)
  redis.call('ZREM', waiting_of(slug, variant), member)
  redis.call('ZREM', line_of(slug, variant, owner), member)
end

-- Says that somebody waits. RQ's tools read the job; no worker does. RQ's keys may be of any type, hence pcall.
local function put_token(slug, variant, name, ttl)
  local list, job = tokens_of(slug, variant), TOKENS .. name
  redis.pcall('SADD', 'rq:queues', list)
  redis.pcall('HSET', job, 'data', JOB, 'origin', 'facelight-' .. slug .. '-' .. variant, 'status', 'queued',
              'description', slug .. ' ' .. variant, 'result_ttl', 0, 'failure_ttl', 0)
  redis.pcall('RPUSH', list, name)
  for _, key in ipairs({{job, list}}) do redis.pcall('EXPIRE', key, ttl) end
end

local function pop_tokens(slug, variant, count)
  for _ = 1, count do
    local name = redis.pcall('LPOP', tokens_of(slug, variant))
    if type(name) == 'string' then redis.call('DEL', TOKENS .. name) end
  end
end

local function is_metered(owner)
  return (redis.call('HGET', account_of(owner), 'credits') or '') ~= ''
end

local function finish(id, state, ttl, ...)
  local key = record_of(id)
  redis.call('EXPIRE', key, ttl)
  local status, slug, variant, owner, ticket, cost =
    unpack(redis.call('HMGET', key, 'status', 'slug', 'variant', 'owner', 'ticket', 'cost'))
  redis.call('HSET', key, 'status', state, 'finished_at', stamp(), ...)
  redis.call('ZREM', OPEN, id)
  if status == 'QUEUED' then leave(slug, variant, owner, member_of(ticket, owner, id)) end
  redis.call('HDEL', RUNNING, id)
  if state == 'FAILED' and tonumber(cost or 0) > 0 and is_metered(owner) then
    redis.call('HINCRBYFLOAT', account_of(owner), 'credits', cost)
  end
  redis.call('PUBLISH', CHANNEL, id)
end
"""
"""What all scripts begin with."""

# ARGV: id, slug, variant, owner, params, cost, time to live, limit of the model or '', limit of the owner or '',
# key for idempotency or '', fingerprint, batch_hint, variants of the model, ...
CREATE: Final = f"""{COMMON}
local id, slug, variant, owner, params, cost, ttl = unpack(ARGV, 1, 7)
if redis.call('EXISTS', record_of(id)) == 1 then return {{'accepted', id}} end
if ARGV[10] ~= '' then
  local known, fingerprint = unpack(redis.call('HMGET', ARGV[10], 'request', 'fingerprint'))
  if known and redis.call('EXISTS', record_of(known)) == 1 then
    return {{fingerprint == ARGV[11] and 'accepted' or 'conflict', known}}
  end
end
local total, own = 0, 0
for number = 13, #ARGV do
  total = total + redis.call('ZCARD', waiting_of(slug, ARGV[number]))
  own = own + redis.call('ZCARD', line_of(slug, ARGV[number], owner))
end
if ARGV[8] ~= '' and total >= tonumber(ARGV[8]) then return {{'full', ''}} end
if ARGV[9] ~= '' and own >= tonumber(ARGV[9]) then return {{'owner is full', ''}} end
if not is_metered(owner) then cost = '0' end
local credits = redis.call('HGET', account_of(owner), 'credits')
if tonumber(cost) > 0 and tonumber(credits) < tonumber(cost) then return {{'out of credits', credits}} end

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
for _, key in ipairs({{record_of(id), OPEN, TICKETS}}) do redis.call('EXPIRE', key, ttl) end
put_token(slug, variant, ticket, ttl)
return {{'accepted', id}}
"""

# ARGV: worker, name of the call, time to live, how many at most, token that is held or '', 1 if only requests that were
# never tried; slug, variant, ... of the queues to look at, in this order. A worker takes a token for every request, the
# one that it holds included: where none is left, other workers are on their way. Requests of one batch_hint are taken
# together while many wait: at most one more than an eighth of them, so a short queue is served in order and at once. A
# call that is sent again because its answer got lost gets the same answer.
TAKE: Final = f"""{COMMON}
local worker, call, ttl, most, token, fresh = unpack(ARGV, 1, 6)
local TAKEN = 'facelight:taken:' .. worker

local function head(slug, variant)
  while true do
    local member = redis.call('ZRANGE', waiting_of(slug, variant), 0, 0)[1]
    if not member then return nil end
    local owner, id = string.match(member, '^%d+:(.*):([^:]+)$')
    local status, attempt, batch_hint = unpack(redis.call('HMGET', record_of(id), 'status', 'attempt', 'batch_hint'))
    if status == 'QUEUED' then
      return {{id = id, owner = owner, member = member, new = attempt == '0', batch_hint = batch_hint or ''}}
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
  local ids, found = {{}}, first
  repeat
    begin(slug, variant, found)
    table.insert(ids, found.id)
    found = #ids < room and first.new and first.batch_hint ~= '' and head(slug, variant)
  until not found or not found.new or found.batch_hint ~= first.batch_hint
  return ids
end

local function answer(ids)
  local held = {{}}
  for _, id in ipairs(ids) do
    local status, by = unpack(redis.call('HMGET', record_of(id), 'status', 'worker'))
    if status == 'PROCESSING' and by == worker then
      table.insert(held, {{id, redis.call('HGETALL', record_of(id))}})
    end
  end
  return held
end

local words = {{}}
for word in string.gmatch(redis.call('GET', TAKEN) or '', '%S+') do table.insert(words, word) end
if table.remove(words, 1) == call then return answer(words) end
if token ~= '' then
  redis.call('DEL', TOKENS .. token)
elseif redis.call('EXISTS', 'rq:suspended') == 1 then
  return {{}}
end
for number = 7, #ARGV, 2 do
  local slug, variant = ARGV[number], ARGV[number + 1]
  local first = (token ~= '' or redis.call('EXISTS', tokens_of(slug, variant)) == 1) and head(slug, variant)
  if first and (first.new or fresh ~= '1') then
    local ids = begin_alike(slug, variant, first)
    pop_tokens(slug, variant, token == '' and #ids or #ids - 1)
    redis.call('SET', TAKEN, call .. ' ' .. table.concat(ids, ' '), 'EX', {_CALL_COUNTS_S})
    return answer(ids)
  end
end
return {{}}
"""

_UNLESS_MOVED_ON: Final = """
local id = ARGV[1]
local status, attempt, worker, cancel =
  unpack(redis.call('HMGET', record_of(id), 'status', 'attempt', 'worker', 'cancel'))
if status == 'COMPLETED' or status == 'FAILED' then return 0 end
if status ~= ARGV[2] or attempt ~= ARGV[3] or (worker or '') ~= ARGV[4] then return 0 end
"""

# ARGV: time to live; then for each request: id, state, attempt and worker that it must have, new state, two fields with
# their values. Returns for each whether it was ended so.
END: Final = f"""{COMMON}
local function end_one(id, status, attempt, worker, state, ...)
  local was, tries, by, cancel = unpack(redis.call('HMGET', record_of(id), 'status', 'attempt', 'worker', 'cancel'))
  if was == 'COMPLETED' or was == 'FAILED' then return 0 end
  if was ~= status or tries ~= attempt or (by or '') ~= worker then return 0 end
  if state == 'COMPLETED' and cancel then
    finish(id, 'FAILED', ARGV[1], 'error', CANCELLED)
    return 0
  end
  finish(id, state, ARGV[1], ...)
  return 1
end
local ended = {{}}
for number = 2, #ARGV, 9 do table.insert(ended, end_one(unpack(ARGV, number, number + 8))) end
return ended
"""

# ARGV: id, state, attempt and worker that it must have; time to live if it waits, and if it ends
REQUEUE: Final = once(
    f"""{_UNLESS_MOVED_ON}
if cancel then
  finish(id, 'FAILED', ARGV[6], 'error', CANCELLED)
  return 0
end
local key = record_of(id)
redis.call('EXPIRE', key, ARGV[5])
redis.call('HSET', key, 'status', 'QUEUED', 'queued_at', stamp())
redis.call('HDEL', key, 'step', 'total')
redis.call('HDEL', RUNNING, id)
local slug, variant, owner, ticket = unpack(redis.call('HMGET', key, 'slug', 'variant', 'owner', 'ticket'))
enter_in_front(slug, variant, owner, member_of(ticket, owner, id), ARGV[5])
return 1
""",
    COMMON,
)

# ARGV: id, time to live once it has ended, and until then
CANCEL: Final = f"""{COMMON}
local status = redis.call('HGET', record_of(ARGV[1]), 'status')
if status == 'QUEUED' then
  finish(ARGV[1], 'FAILED', ARGV[2], 'error', CANCELLED)
elseif status == 'PROCESSING' then
  redis.call('EXPIRE', record_of(ARGV[1]), ARGV[3])
  redis.call('HSET', record_of(ARGV[1]), 'cancel', 1)
end
"""

# ARGV: id, state, attempt and worker that it must have; time to live, step, total. Returns whether it is to be ended.
REPORT: Final = f"""{COMMON}{_UNLESS_MOVED_ON}
redis.call('EXPIRE', record_of(id), ARGV[5])
if ARGV[6] ~= '0' then redis.call('HSET', record_of(id), 'step', ARGV[6], 'total', ARGV[7]) end
return cancel and 1 or 0
"""
