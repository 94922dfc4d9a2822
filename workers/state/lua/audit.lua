-- requires common, once
-- ARGV: rank of the first request to look at, and how many; time to live if it waits, and if it ends; seconds that it
-- may wait; the sentence for who has waited longer. Returns how many it saw, and the ids of those it ended or repaired.

return once(function(ARGV)
  redis.call('EXPIRE', OPEN, ARGV[3])
  local ids = redis.call('ZRANGE', OPEN, ARGV[1], ARGV[1] + ARGV[2] - 1)
  local repaired, now = {}, tonumber(redis.call('TIME')[1])
  local function mend(id, step, ...)
    table.insert(repaired, id)
    step(...)
  end
  for _, id in ipairs(ids) do
    local status, slug, variant, owner, ticket, worker, created_at =
      unpack(redis.call('HMGET', record_of(id), 'status', 'slug', 'variant', 'owner', 'ticket', 'worker', 'created_at'))
    if status == 'QUEUED' and ticket then
      local member = member_of(ticket, owner, id)
      local turn = redis.call('ZSCORE', waiting_of(slug, variant), member)
      if now - created_at > tonumber(ARGV[5]) then
        mend(id, finish, id, 'FAILED', ARGV[4], 'error', ARGV[6])
      elseif not turn then
        mend(id, enter_in_front, slug, variant, owner, member, ARGV[3])
      elseif not redis.call('ZSCORE', line_of(slug, variant, owner), member) then
        mend(id, enter, slug, variant, owner, member, turn, ARGV[3])
      end
    elseif status == 'PROCESSING' then
      if redis.call('HSETNX', RUNNING, id, worker) == 1 then mend(id, redis.call, 'EXPIRE', RUNNING, ARGV[3]) end
    else
      mend(id, redis.call, 'ZREM', OPEN, id)
    end
  end
  for _, id in ipairs(redis.call('HKEYS', RUNNING)) do
    if redis.call('HGET', record_of(id), 'status') ~= 'PROCESSING' then redis.call('HDEL', RUNNING, id) end
  end
  return {#ids, repaired}, #repaired > 0
end)
