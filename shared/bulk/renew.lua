-- Renews claims that are still there.
--
-- KEYS[1] sorted set of a job's claims
-- ARGV[1] how long they last, ms
-- ARGV[2...] segments
local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
for index = 2, #ARGV do
    redis.call('ZADD', KEYS[1], 'XX', ends, ARGV[index])
end
return #ARGV - 1
