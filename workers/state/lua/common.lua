-- What the steps of a request have in common. What they keep, all of it below `facelight:` and with an expiry:
--
--     request:<id>                     hash    the record; see `workers.state.records`
--     waiting:<slug>:<variant>         zset    who waits for a worker, by turn: the queue
--     line:<slug>:<variant>:<owner>    zset    the same requests again, those of one owner
--     running                          hash    id → worker of all requests that workers have in hand
--     taken:<worker>                   string  what its last call of TAKE was given: the call's name, then ids
--     answer:<call>                    string  what a call was answered that must be made once; see once.lua
--     open                             zset    ids of all requests that have not ended, by the time they were accepted
--     tickets                          string  counts all requests
--     idempotency:<owner>:<digest>     hash    the request that stands for all calls with one Idempotency-Key
--
-- Owners take turns (start-time fair queueing, Goyal, Vin, Cheng 1996): a request's turn is one behind the last of its
-- owner, or that of the head of the queue if its owner has none waiting. The least turn is served first, and within a turn
-- the one that came first. So one request of an owner does not wait for a thousand of another. The turn of a cancelled
-- request passes unused. Who has lost a worker comes before all others.
--
-- Beside the queue lies a list of tokens, an RQ queue, which wakes a worker: see `workers.state.queue`. Whoever writes a
-- request into the queue puts a token there in the same step. What RQ's own keys hold never stops a step.
--
-- A member of `waiting` and `line` is `<ticket>:<owner>:<id>`, tickets being numbers that grow and have the same length.
--
-- A Redis that is full (noeviction) refuses only the first write of a script, and only one that may need memory. So every
-- step of a request that is already there begins with EXPIRE: what was accepted can end, and what is new is refused.

local CANCELLED, CHANNEL = '$CANCELLED', '$FINISHED_CHANNEL'
-- What a token names as its function, for people who look at RQ.
local JOB = '["workers.engine.stages.Task", null, [], {}]'
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
  for _, key in ipairs({waiting_of(slug, variant), line_of(slug, variant, owner)}) do
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
  for _, key in ipairs({job, list}) do redis.pcall('EXPIRE', key, ttl) end
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
