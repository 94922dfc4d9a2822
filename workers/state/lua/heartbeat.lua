-- KEYS: report of the worker, names of all workers, counts
-- ARGV: report, its TTL, name of the worker
-- EXPIRE comes first, so that a heartbeat succeeds in a Redis that is full: that refuses only the first write of a
-- script, and only one that may need memory.

redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if redis.call('SADD', KEYS[2], ARGV[3]) == 1 then redis.call('HINCRBY', KEYS[3], 'worker:started', 1) end
