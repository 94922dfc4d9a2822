-- KEYS: lock; ARGV: who holds it. The round may have taken longer than the lock lives.

if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
