-- requires key_common, once
-- ARGV: id or name, credits to add or '', field, value, ...
-- Returns the ids that it may mean; if it is one, whether that key has changed: not if it has no credits to add to.

return once(function(id_or_name, added, ...)
  local ids = ids_of(id_or_name)
  if #ids ~= 1 then return {ids, 0} end
  local key = PREFIX .. ids[1]
  if added ~= '' then
    if (redis.call('HGET', key, 'credits') or '') == '' then return {ids, 0} end
    redis.call('HINCRBYFLOAT', key, 'credits', added)
  end
  if select('#', ...) > 0 then redis.call('HSET', key, ...) end
  return {ids, 1}
end)
