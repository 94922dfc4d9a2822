-- requires key_common, once
-- ARGV: id or name, credits to add or '', field, value, ... Returns the ids that it may mean, and if it is one whether
-- that key has changed: it has not if there are no credits to add to.

return once(function(ARGV)
  local ids = ids_of(ARGV[1])
  if #ids ~= 1 then return {ids, 0} end
  local key = PREFIX .. ids[1]
  if ARGV[2] ~= '' then
    if (redis.call('HGET', key, 'credits') or '') == '' then return {ids, 0} end
    redis.call('HINCRBYFLOAT', key, 'credits', ARGV[2])
  end
  if #ARGV > 2 then redis.call('HSET', key, unpack(ARGV, 3)) end
  return {ids, 1}
end)
