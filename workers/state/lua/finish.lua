-- requires common
-- Ends requests as COMPLETED or FAILED; a cancelled one cannot become COMPLETED, it FAILED.
--
-- KEYS: records
-- ARGV: TTL of what is finished; then for each record: id, state, attempt and worker that it must have, new state,
--       reason or '', seconds of the device's time, three fields with their values
-- Returns for each 1 if it has the new state by this step, else 0.

local ttl = ARGV[1]
-- The mean of the device's time follows the last so many requests.
local MEAN_OF = 20

local function learn(record, device_s)
  local slug, variant = unpack(redis.call('HMGET', record, 'slug', 'variant'))
  local field = slug .. ':device_s:' .. variant
  local mean = tonumber(redis.call('HGET', COUNTS, field) or device_s)
  redis.call('HSET', COUNTS, field, mean + (device_s - mean) / MEAN_OF)
end

local function finish_one(record, id, status, attempt, worker, state, reason, device_s, ...)
  local is_status, is_attempt, is_worker, cancel = unpack(redis.call('HMGET', record, 'status', 'attempt', 'worker',
                                                                    'cancel'))
  if is_status == 'COMPLETED' or is_status == 'FAILED' then return 0 end
  if is_status ~= status or is_attempt ~= attempt or (is_worker or '') ~= worker then return 0 end
  if state == 'COMPLETED' and cancel then
    finish(id, 'FAILED', 'cancelled', ttl, 'error', CANCELLED)
    return 0
  end
  finish(id, state, reason, ttl, ...)
  if state == 'COMPLETED' then learn(record, tonumber(device_s)) end
  return 1
end

local finished = {}
for number, record in ipairs(KEYS) do
  local first = 2 + 13 * (number - 1)
  table.insert(finished, finish_one(record, unpack(ARGV, first, first + 12)))
end
return finished
