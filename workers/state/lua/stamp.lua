local now = redis.call('TIME')
local stamp = now[1] .. '.' .. string.format('%06d', now[2])
