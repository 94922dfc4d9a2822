-- Makes a step idempotent that cannot recognise by itself that it was carried out already, or would reply otherwise
-- the second time. ARGV[1] is the call id, under which the reply is kept: a command is retried within seconds. The step
-- gets the rest of ARGV. Its second value `false` says that nothing has changed, so the reply need not be kept. A Redis
-- that is full or read-only keeps no reply, hence pcall; what it refuses was not carried out.

local REPLY_TTL_S = 60

local function once(step)
  local reply_key = 'facelight:reply:' .. ARGV[1]
  local kept = redis.call('GET', reply_key)
  if kept then return cmsgpack.unpack(kept) end
  local reply, changed = step(unpack(ARGV, 2))
  if changed ~= false then redis.pcall('SET', reply_key, cmsgpack.pack(reply), 'EX', REPLY_TTL_S) end
  return reply
end
