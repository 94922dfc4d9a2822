-- requires common, once
-- PROCESSING back to QUEUED, at the front; FAILED if it was cancelled.
--
-- KEYS: record
-- ARGV: id, state, attempt and worker that it must have, TTL of what is unfinished, and of what is finished
-- Returns 1 if it is QUEUED by this step, else 0.

return once(function(id, expected_status, expected_attempt, expected_worker, open_ttl, finished_ttl)
  local record = KEYS[1]
  local status, attempt, worker, cancel =
    unpack(redis.call('HMGET', record, 'status', 'attempt', 'worker', 'cancel'))
  if status ~= expected_status or attempt ~= expected_attempt or (worker or '') ~= expected_worker then return 0 end
  if cancel then
    finish(id, 'FAILED', 'cancelled', finished_ttl, 'error', CANCELLED)
    return 0
  end
  redis.call('EXPIRE', record, open_ttl)
  redis.call('HSET', record, 'status', 'QUEUED', 'queued_at', timestamp())
  redis.call('HDEL', record, 'step', 'total')
  redis.call('HDEL', RUNNING, id)
  local slug, variant, owner, ticket = unpack(redis.call('HMGET', record, 'slug', 'variant', 'owner', 'ticket'))
  redis.call('HINCRBY', COUNTS, slug .. ':requeued', 1)
  requeue_front(slug, variant, owner, member_of(ticket, owner, id), open_ttl)
  tell_of_change(id)
  return 1
end)
