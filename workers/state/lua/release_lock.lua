-- KEYS: lock
-- ARGV: who holds it; after its TTL that may be another process

if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
