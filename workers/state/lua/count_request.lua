-- KEYS: sorted set of the calls that were admitted, by their times in µs. ARGV: name of the call, limit, seconds of the
-- window. Returns whether the call is admitted, how many more would be, and in how many seconds the oldest leaves the
-- window or, for a call that is refused, one is admitted again. Sent again, a call that was admitted is found and not
-- counted twice. What comes from the future was counted before Redis' clock was set back.

local calls, name, limit, window_s = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local from = now - window_s * 1000000
redis.call('ZREMRANGEBYSCORE', calls, '-inf', string.format('%.0f', from))
redis.call('ZREMRANGEBYSCORE', calls, string.format('(%.0f', now), '+inf')
local count = redis.call('ZCARD', calls)
local admitted = redis.call('ZSCORE', calls, name) and true or false
if not admitted and count < limit then
  redis.call('ZADD', calls, string.format('%.0f', now), name)
  redis.call('EXPIRE', calls, window_s)
  admitted, count = true, count + 1
end
local first = redis.call('ZRANGE', calls, math.max(0, admitted and 0 or count - limit), -1, 'WITHSCORES')[2]
local wait_s = math.max(1, math.ceil((tonumber(first or now) - from) / 1000000))
return {admitted and 1 or 0, math.max(0, limit - count), wait_s}
