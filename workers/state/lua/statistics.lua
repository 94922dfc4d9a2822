-- requires common
-- Counts what there is, and changes nothing.
--
-- ARGV: slug, variant, ... of the queues
-- Returns the time, whether the queues are paused, for each queue how many wait and when the oldest of them was
-- accepted or '', the slugs of what is running, and the hash of counts.
--
-- The oldest is found in a few steps, however many wait: the first request of an owner has a start tag of at most that
-- of the queue's head + 1 (but for one whose predecessors were cancelled), and among equal tags the lowest ticket,
-- which is the oldest, stands first.

local function oldest(waiting)
  local member, tag = unpack(redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES'))
  local first, last = member, tag and tag + 1
  while member do
    if member < first then first = member end
    member, tag = unpack(redis.call('ZRANGEBYSCORE', waiting, '(' .. tag, last, 'WITHSCORES', 'LIMIT', 0, 1))
  end
  return first and redis.call('HGET', record_key(string.match(first, '[^:]+$')), 'created_at') or ''
end

local queues, running = {}, {}
for number = 1, #ARGV, 2 do
  local waiting = waiting_key(ARGV[number], ARGV[number + 1])
  table.insert(queues, redis.call('ZCARD', waiting))
  table.insert(queues, oldest(waiting))
end
for _, id in ipairs(redis.call('HKEYS', RUNNING)) do
  table.insert(running, redis.call('HGET', record_key(id), 'slug') or '')
end
return {timestamp(), redis.call('EXISTS', 'rq:suspended'), queues, running, redis.call('HGETALL', COUNTS)}
