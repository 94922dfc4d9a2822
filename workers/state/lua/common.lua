-- requires outbox
-- What the steps of a request share. Their keys, all of them below `facelight:`, and but for one with an expiry:
--
--   request:<id>                          hash    the record; see `workers.state.records`
--   waiting:<slug>:<variant>              zset    the queue: requests that are QUEUED, by start tag
--   owner_queue:<slug>:<variant>:<owner>  zset    the same requests again, those of one owner
--   running                               hash    id -> worker of all requests that are PROCESSING
--   claimed:<worker>                      string  reply to the worker's last claim: its claim id, then request ids
--   reply:<call id>                       string  reply to a call that is not idempotent by itself; see once.lua
--   open                                  zset    ids of all unfinished requests, by the time they were accepted
--   tickets                               string  counts all requests
--   idempotency:<owner>:<digest>          hash    the request that represents all calls with one Idempotency-Key
--   webhook…                              the outbox; see outbox.lua
--   version                               string  version of all these keys; see `workers.state.versions`
--   counts                                hash    what happened so far; without an expiry: `workers.state.statistics`
--
-- Owners share a queue by start-time fair queueing (Goyal, Vin, Cheng 1996), every request having the length 1. Its
-- start tag (`virtual_start`) is the greater of two: the queue's virtual time, which is the start tag of its head, and
-- the start tag of its owner's last waiting request + 1. The lowest start tag is served first, the lowest ticket among
-- equal ones. So one request of an owner does not wait for a thousand of another. The start tag of a cancelled request
-- is not used again. A request whose worker died goes to the front.
--
-- Beside every queue there is a list of wakeups, which is an RQ queue (`workers.engine.rq_loop`): workers block on it.
-- Whatever enqueues a new request adds a wakeup in the same step. No content of RQ's keys makes a step fail.
--
-- Who waits for a request is notified by pub/sub: of its end on one channel for all requests, of its other changes on
-- one of its own. A message that nobody listens to costs nothing.
--
-- A member of `waiting` and `owner_queue` is `<ticket>:<owner>:<id>`; tickets are growing numbers of one length.
--
-- A Redis that is full (noeviction) refuses only the first write of a script, and only one that may need memory. So
-- every step of a request that exists begins with EXPIRE: accepted requests can end, and new ones are refused.
--
-- KEYS declares the keys that a caller can name: records, keys of owners, counters, locks. Keys of queues are composed
-- from what a step reads: slug, variant and owner of a record, which cannot be declared ahead. That, and steps that
-- change records, queues and credits at once, need all keys in one Redis: no Cluster.

local CANCELLED, CHANNEL = '$CANCELLED', '$FINISHED_CHANNEL'
local OPEN, RUNNING, TICKETS = 'facelight:open', 'facelight:running', 'facelight:tickets'
local VERSION, COUNTS = 'facelight:version', 'facelight:counts'
local QUEUE_VERSION, RECORD_VERSION = tonumber('$QUEUE_VERSION'), tonumber('$RECORD_VERSION')
-- What RQ's tools show as the function of a wakeup's job; no worker imports it.
local JOB = '["facelight.wakeup", null, [], {}]'

local version_found = tonumber(redis.call('GET', VERSION)) or QUEUE_VERSION
if version_found > QUEUE_VERSION then
  return redis.error_reply('NEWERQUEUE the queue in this Redis is of version ' .. version_found .. ', written by a '
    .. 'newer facelight; this one knows version ' .. QUEUE_VERSION .. ': upgrade it')
end

local function record_key(id) return 'facelight:request:' .. id end
local function account_key(owner) return 'facelight:key:' .. owner end
local function waiting_key(slug, variant) return 'facelight:waiting:' .. slug .. ':' .. variant end
local function owner_queue_key(slug, variant, owner)
  return 'facelight:owner_queue:' .. slug .. ':' .. variant .. ':' .. owner
end
local function wakeups_key(slug, variant) return 'rq:queue:facelight-' .. slug .. '-' .. variant end
local function wakeup_job_key(wakeup) return 'rq:job:' .. wakeup end
local function member_of(ticket, owner, id) return ticket .. ':' .. owner .. ':' .. id end

local function tell_of_change(id) redis.call('PUBLISH', '$CHANGES_PREFIX' .. id, '') end

local function timestamp()
  local now = redis.call('TIME')
  return now[1] .. '.' .. string.format('%06d', now[2])
end

local function virtual_time(waiting)
  return tonumber(redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')[2] or 1)
end

local function enqueue(slug, variant, owner, member, virtual_start, ttl)
  for _, key in ipairs({waiting_key(slug, variant), owner_queue_key(slug, variant, owner)}) do
    redis.call('ZADD', key, virtual_start, member)
    redis.call('EXPIRE', key, ttl)
  end
end

local function requeue_front(slug, variant, owner, member, ttl)
  enqueue(slug, variant, owner, member, math.ceil(virtual_time(waiting_key(slug, variant))) - 0.5, ttl)
end

local function dequeue(slug, variant, owner, member)
  redis.call('ZREM', waiting_key(slug, variant), member)
  redis.call('ZREM', owner_queue_key(slug, variant, owner), member)
end

-- The RQ job is for RQ's tools, no worker reads it. RQ's keys may hold another type, hence pcall.
local function add_wakeup(slug, variant, name, ttl)
  local list, job = wakeups_key(slug, variant), wakeup_job_key(name)
  redis.pcall('SADD', 'rq:queues', list)
  redis.pcall('HSET', job, 'data', JOB, 'origin', 'facelight-' .. slug .. '-' .. variant, 'status', 'queued',
              'description', slug .. ' ' .. variant, 'result_ttl', 0, 'failure_ttl', 0)
  redis.pcall('RPUSH', list, name)
  for _, key in ipairs({job, list}) do redis.pcall('EXPIRE', key, ttl) end
end

local function remove_wakeups(slug, variant, count)
  for _ = 1, count do
    local name = redis.pcall('LPOP', wakeups_key(slug, variant))
    if type(name) == 'string' then redis.call('DEL', wakeup_job_key(name)) end
  end
end

local function is_metered(owner)
  return (redis.call('HGET', account_key(owner), 'credits') or '') ~= ''
end

-- To COMPLETED or FAILED: the record expires, leaves all lists, a failed request's credits are refunded, it is counted
-- and, if its caller wants that, told by a webhook. `reason` is one of `FailureReason`, or '' for what is COMPLETED.
local function finish(id, state, reason, ttl, ...)
  local key = record_key(id)
  redis.call('EXPIRE', key, ttl)
  local status, slug, variant, owner, ticket, cost =
    unpack(redis.call('HMGET', key, 'status', 'slug', 'variant', 'owner', 'ticket', 'cost'))
  redis.call('HSET', key, 'status', state, 'finished_at', timestamp(), ...)
  redis.call('ZREM', OPEN, id)
  if status == 'QUEUED' then dequeue(slug, variant, owner, member_of(ticket, owner, id)) end
  redis.call('HDEL', RUNNING, id)
  if state == 'FAILED' and tonumber(cost or 0) > 0 and is_metered(owner) then
    redis.call('HINCRBYFLOAT', account_key(owner), 'credits', cost)
    redis.call('HINCRBYFLOAT', COUNTS, slug .. ':refunded', cost)
  end
  redis.call('HINCRBY', COUNTS, (slug or '') .. ':' .. state .. ':' .. reason, 1)
  add_webhook(id, 'completed', ttl)
  redis.call('PUBLISH', CHANNEL, id)
end
