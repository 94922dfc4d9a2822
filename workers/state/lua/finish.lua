-- requires common
-- ARGV: time to live; then for each request: id, state, attempt and worker that it must have, new state, two fields with
-- their values. Returns for each whether it was ended so.

local function end_one(id, status, attempt, worker, state, ...)
  local was, tries, by, cancel = unpack(redis.call('HMGET', record_of(id), 'status', 'attempt', 'worker', 'cancel'))
  if was == 'COMPLETED' or was == 'FAILED' then return 0 end
  if was ~= status or tries ~= attempt or (by or '') ~= worker then return 0 end
  if state == 'COMPLETED' and cancel then
    finish(id, 'FAILED', ARGV[1], 'error', CANCELLED)
    return 0
  end
  finish(id, state, ARGV[1], ...)
  return 1
end
local ended = {}
for number = 2, #ARGV, 9 do table.insert(ended, end_one(unpack(ARGV, number, number + 8))) end
return ended
