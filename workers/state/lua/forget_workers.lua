-- KEYS: names of all workers, counts
-- ARGV: prefix of their reports, names of workers whose reports have expired
-- Removes and counts those that have not come back meanwhile: they have ended without a word.

for number = 2, #ARGV do
  local name = ARGV[number]
  if redis.call('EXISTS', ARGV[1] .. name) == 0 and redis.call('SREM', KEYS[1], name) == 1 then
    redis.call('HINCRBY', KEYS[2], 'worker:lost', 1)
  end
end
