-- Which of these tasks are neither queued nor held by a worker? (BRPOP takes a message before kombu records it: a worker
-- killed between the two loses it, and so does a Redis that restarts without its last second.)
-- KEYS[1] queue   KEYS[2] sorted set of leases
-- ARGV[1] prefix of the unacked hashes   ARGV[2] longest queue to search   ARGV[3..] task ids
-- Returns the missing ids. A longer queue is taken to hold everything.
local workers = redis.call('ZRANGE', KEYS[2], 0, -1)
local queued = nil
local missing = {}
for i = 3, #ARGV do
  local id, found = ARGV[i], false
  for _, worker in ipairs(workers) do
    if redis.call('HEXISTS', ARGV[1] .. worker, id) == 1 then
      found = true
      break
    end
  end
  if not found then
    if not queued then
      if redis.call('LLEN', KEYS[1]) > tonumber(ARGV[2]) then
        return {}
      end
      queued = redis.call('LRANGE', KEYS[1], 0, -1)
    end
    for _, message in ipairs(queued) do
      if string.find(message, '"' .. id .. '"', 1, true) then
        found = true
        break
      end
    end
  end
  if not found then
    missing[#missing + 1] = id
  end
end
return missing
