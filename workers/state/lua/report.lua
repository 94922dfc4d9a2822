-- requires common
-- ARGV: id, state, attempt and worker that it must have; time to live, step, total. Returns whether it is to be ended.

local id = ARGV[1]
local status, attempt, worker, cancel =
  unpack(redis.call('HMGET', record_of(id), 'status', 'attempt', 'worker', 'cancel'))
if status == 'COMPLETED' or status == 'FAILED' then return 0 end
if status ~= ARGV[2] or attempt ~= ARGV[3] or (worker or '') ~= ARGV[4] then return 0 end

redis.call('EXPIRE', record_of(id), ARGV[5])
if ARGV[6] ~= '0' then redis.call('HSET', record_of(id), 'step', ARGV[6], 'total', ARGV[7]) end
return cancel and 1 or 0
