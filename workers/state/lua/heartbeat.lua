-- KEYS: worker, names; ARGV: report, seconds that it counts, name. EXPIRE comes first so that a worker can say that it
-- lives even in a Redis that is full: it refuses only the first write of a script, and only one that may need memory.

redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
