-- requires common, once
-- Compares unfinished requests with the lists they belong in, and repairs what does not agree.
--
-- ARGV: rank of the first request and how many (by age), TTL of what is unfinished and of what is finished,
--       seconds that a request may wait, its error after that
-- Returns how many requests there were, and the ids of those that were ended or repaired.

return once(function(start, count, open_ttl, finished_ttl, max_wait_s, overdue)
  redis.call('EXPIRE', OPEN, open_ttl)
  local ids = redis.call('ZRANGE', OPEN, start, start + count - 1)
  local repaired, now = {}, tonumber(redis.call('TIME')[1])
  local function repair(id, step, ...)
    table.insert(repaired, id)
    step(...)
  end
  for _, id in ipairs(ids) do
    local status, slug, variant, owner, ticket, worker, created_at = unpack(redis.call(
      'HMGET', record_key(id), 'status', 'slug', 'variant', 'owner', 'ticket', 'worker', 'created_at'))
    if status == 'QUEUED' and ticket then
      local member = member_of(ticket, owner, id)
      local virtual_start = redis.call('ZSCORE', waiting_key(slug, variant), member)
      if now - created_at > tonumber(max_wait_s) then
        repair(id, finish, id, 'FAILED', 'overdue', finished_ttl, 'error', overdue)
      elseif not virtual_start then
        repair(id, requeue_front, slug, variant, owner, member, open_ttl)
      elseif not redis.call('ZSCORE', owner_queue_key(slug, variant, owner), member) then
        repair(id, enqueue, slug, variant, owner, member, virtual_start, open_ttl)
      end
    elseif status == 'PROCESSING' then
      if redis.call('HSETNX', RUNNING, id, worker) == 1 then repair(id, redis.call, 'EXPIRE', RUNNING, open_ttl) end
    else
      repair(id, redis.call, 'ZREM', OPEN, id)
    end
  end
  for _, id in ipairs(redis.call('HKEYS', RUNNING)) do
    if redis.call('HGET', record_key(id), 'status') ~= 'PROCESSING' then redis.call('HDEL', RUNNING, id) end
  end
  return {#ids, repaired}, #repaired > 0
end)
