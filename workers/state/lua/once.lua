-- Takes a step once, however often it is sent, for steps that cannot see by what is there that they were taken already,
-- or whose answer is another the second time. ARGV[1] is a name for the call, under which its answer is kept for a
-- minute (calls are sent again within seconds, or under another name); the step gets what follows in ARGV. The step's
-- second value `false` says that nothing has changed, so the answer need not be kept. A Redis that is full or read-only
-- keeps no answer, hence pcall; what it refuses was not done.

local function once(step)
  local kept_as = 'facelight:answer:' .. ARGV[1]
  local kept = redis.call('GET', kept_as)
  if kept then return cmsgpack.unpack(kept) end
  local answer, changed = step({unpack(ARGV, 2)})
  if changed ~= false then redis.pcall('SET', kept_as, cmsgpack.pack(answer), 'EX', 60) end
  return answer
end
