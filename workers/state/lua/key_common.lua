-- What the steps of API keys share; `workers.state.keys` says what is kept of a key. Names are searched, not indexed:
-- there are few keys, and old ones may share a name. A reply that is kept (once.lua) must not hold a digest.

local DIGESTS, PREFIX = 'facelight:key-digests', 'facelight:key:'

local function ids_of_name(name)
  local ids = {}
  for _, id in ipairs(redis.call('HVALS', DIGESTS)) do
    if redis.call('HGET', PREFIX .. id, 'name') == name then table.insert(ids, id) end
  end
  table.sort(ids)
  return ids
end

local function ids_of(id_or_name)
  if redis.call('EXISTS', PREFIX .. id_or_name) == 1 then return {id_or_name} end
  return ids_of_name(id_or_name)
end
