-- Records the progress of a request.
--
-- KEYS: record
-- ARGV: id, state, attempt and worker that it must have, TTL of what is unfinished, step or 0, total
-- Returns 1 if the request is to be cancelled, else 0.

local record = KEYS[1]
local id, expected_status, expected_attempt, expected_worker, ttl, step, total = unpack(ARGV)
local status, attempt, worker, cancel, last =
  unpack(redis.call('HMGET', record, 'status', 'attempt', 'worker', 'cancel', 'step'))
if status ~= expected_status or attempt ~= expected_attempt or (worker or '') ~= expected_worker then return 0 end
redis.call('EXPIRE', record, ttl)
if step ~= '0' and step ~= last then
  redis.call('HSET', record, 'step', step, 'total', total)
  redis.call('PUBLISH', '$CHANGES_PREFIX' .. id, '')
end
return cancel and 1 or 0
