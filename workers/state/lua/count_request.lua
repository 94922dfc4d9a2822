-- KEYS: sorted set of admitted requests, by their times in µs
-- ARGV: call id, limit, seconds of the window
-- Returns whether the request is admitted, how many more would be, and in how many seconds the oldest leaves the
-- window or, for a refused request, another is admitted. A call that is sent again is recognised by its id. Times in
-- the future were counted before Redis' clock was set back.

local requests, call_id, limit, window_s = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local from = now - window_s * 1000000
redis.call('ZREMRANGEBYSCORE', requests, '-inf', string.format('%.0f', from))
redis.call('ZREMRANGEBYSCORE', requests, string.format('(%.0f', now), '+inf')
local count = redis.call('ZCARD', requests)
local admitted = redis.call('ZSCORE', requests, call_id) and true or false
if not admitted and count < limit then
  redis.call('ZADD', requests, string.format('%.0f', now), call_id)
  redis.call('EXPIRE', requests, window_s)
  admitted, count = true, count + 1
end
local first = redis.call('ZRANGE', requests, math.max(0, admitted and 0 or count - limit), -1, 'WITHSCORES')[2]
local wait_s = math.max(1, math.ceil((tonumber(first or now) - from) / 1000000))
return {admitted and 1 or 0, math.max(0, limit - count), wait_s}
