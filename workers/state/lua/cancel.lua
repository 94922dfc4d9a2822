-- requires common
-- QUEUED to FAILED; PROCESSING gets the mark that its worker sees at its next report. What is finished stays.
--
-- KEYS: record
-- ARGV: id, TTL of what is finished, and of what is unfinished

local record = KEYS[1]
local id, finished_ttl, open_ttl = unpack(ARGV)
local status = redis.call('HGET', record, 'status')
if status == 'QUEUED' then
  finish(id, 'FAILED', 'cancelled', finished_ttl, 'error', CANCELLED)
elseif status == 'PROCESSING' then
  redis.call('EXPIRE', record, open_ttl)
  redis.call('HSET', record, 'cancel', 1)
end
