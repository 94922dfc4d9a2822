-- requires common
-- ARGV: id, time to live once it has ended, and until then

local status = redis.call('HGET', record_of(ARGV[1]), 'status')
if status == 'QUEUED' then
  finish(ARGV[1], 'FAILED', ARGV[2], 'error', CANCELLED)
elseif status == 'PROCESSING' then
  redis.call('EXPIRE', record_of(ARGV[1]), ARGV[3])
  redis.call('HSET', record_of(ARGV[1]), 'cancel', 1)
end
