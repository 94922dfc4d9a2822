-- requires outbox, once
-- Leases messages that are due to one process.
--
-- ARGV: lease, its seconds, messages to lease at most, messages of one receiver that a process may be sending; then a
--       receiver, how many of its messages the process is sending, ...
-- Returns message and tries of each, and in how many seconds another one is due, or ''. Messages of receivers that the
-- process may send nothing to now do not count. A message whose request has expired is removed.

-- So many receivers that the process may send nothing to hide those behind them.
local MAX_RECEIVERS = 1000

return once(function(lease, lease_s, slots, per_receiver, ...)
  local busy, leased, next_due = {}, {}, nil
  local sending = {...}
  for number = 1, #sending, 2 do busy[sending[number]] = tonumber(sending[number + 1]) end
  local left_ms = redis.call('PTTL', WEBHOOKS)
  if left_ms < 0 then return {leased, ''}, false end
  redis.call('PEXPIRE', WEBHOOKS, left_ms)
  local time = redis.call('TIME')
  local now = time[1] + time[2] / 1000000
  local receivers = redis.call('ZRANGE', WEBHOOKS, 0, MAX_RECEIVERS - 1, 'WITHSCORES')

  local function lease_of(receiver, room)
    local outbox = outbox_key(receiver)
    for _, message in ipairs(redis.call('ZRANGEBYSCORE', outbox, '-inf', now, 'LIMIT', 0, room)) do
      local exists = redis.call('EXISTS', message_key(message), 'facelight:request:' .. string.match(message, '[^:]*'))
      if exists == 2 then
        redis.call('HSET', message_key(message), 'lease', lease)
        redis.call('ZADD', outbox, now + lease_s, message)
        table.insert(leased, {message, receiver, redis.call('HGET', message_key(message), 'tries')})
        room = room - 1
      else
        redis.call('ZREM', outbox, message)
        redis.call('DEL', message_key(message))
      end
    end
    local first = redis.call('ZRANGE', outbox, 0, 0, 'WITHSCORES')[2]
    if first then
      redis.call('ZADD', WEBHOOKS, first, receiver)
      if room > 0 then next_due = math.min(next_due or first, first) end
    else
      redis.call('ZREM', WEBHOOKS, receiver)
    end
  end

  for number = 1, #receivers, 2 do
    local receiver, due = receivers[number], tonumber(receivers[number + 1])
    local room = math.min(slots - #leased, per_receiver - (busy[receiver] or 0))
    if due > now then
      next_due = math.min(next_due or due, due)
      break
    elseif room > 0 then
      lease_of(receiver, room)
    end
  end
  return {leased, next_due and tostring(next_due - now) or ''}, #leased > 0
end)
