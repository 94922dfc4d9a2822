-- KEYS: records
-- ARGV: names of fields
-- Returns for each record the values of those fields, nil for what it lacks.

local found = {}
for number, record in ipairs(KEYS) do found[number] = redis.call('HMGET', record, unpack(ARGV)) end
return found
