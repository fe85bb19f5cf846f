-- Moves a job into another state.
--
-- KEYS[1] hash of the job
-- ARGV[1] the new state
-- ARGV[2] now, Unix seconds
-- ARGV[3] the states that it may be in, each followed by a comma
-- ARGV[4...] more fields and their values
--
-- Returns 1 if it was moved.
local state = redis.call('HGET', KEYS[1], 'state')
if not state or not string.find(ARGV[3], state .. ',', 1, true) then
    return 0
end
redis.call('HSET', KEYS[1], 'state', ARGV[1], 'at:' .. ARGV[1], ARGV[2])
for index = 4, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
end
return 1
