-- requires common, once
-- ARGV: id, state, attempt and worker that it must have; time to live if it waits, and if it ends

return once(function(ARGV)
  local id = ARGV[1]
  local status, attempt, worker, cancel =
    unpack(redis.call('HMGET', record_of(id), 'status', 'attempt', 'worker', 'cancel'))
  if status == 'COMPLETED' or status == 'FAILED' then return 0 end
  if status ~= ARGV[2] or attempt ~= ARGV[3] or (worker or '') ~= ARGV[4] then return 0 end

  if cancel then
    finish(id, 'FAILED', ARGV[6], 'error', CANCELLED)
    return 0
  end
  local key = record_of(id)
  redis.call('EXPIRE', key, ARGV[5])
  redis.call('HSET', key, 'status', 'QUEUED', 'queued_at', stamp())
  redis.call('HDEL', key, 'step', 'total')
  redis.call('HDEL', RUNNING, id)
  local slug, variant, owner, ticket = unpack(redis.call('HMGET', key, 'slug', 'variant', 'owner', 'ticket'))
  enter_in_front(slug, variant, owner, member_of(ticket, owner, id), ARGV[5])
  return 1
end)
