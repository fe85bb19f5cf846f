-- Has an event that has ended sent again, at once and with all its attempts before it.
--
-- KEYS[1] hash of the job
-- KEYS[2] hash of the event
-- KEYS[3] sorted set of lanes, by when to look at them
-- KEYS[4] list of the job's delivered events
-- ARGV[1] event
-- ARGV[2] prefix of the sorted sets of events that wait
--
-- Returns 1 if it will be sent.
local state = redis.call('HGET', KEYS[2], 'state')
if (state ~= 'delivered' and state ~= 'dead') or redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
end
local lane = redis.call('HGET', KEYS[2], 'lane') or redis.call('HGET', KEYS[2], 'target')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', ARGV[2] .. lane, now, ARGV[1])
redis.call('ZADD', KEYS[3], 'LT', now, lane)
redis.call('HSET', KEYS[2], 'state', 'pending', 'attempts', 0)
redis.call('PERSIST', KEYS[2])
if redis.call('HGET', KEYS[2], 'own') ~= '0' then
    redis.call('HINCRBY', KEYS[1], 'callbacks_' .. state, -1)
    redis.call('HINCRBY', KEYS[1], 'callbacks_pending', 1)
end
redis.call('LREM', KEYS[4], 0, ARGV[1])
return 1
