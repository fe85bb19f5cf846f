-- Tells a worker what to deliver, and renews its lease, unless the event has been given to another since.
--
-- KEYS[1] hash of the event
-- ARGV[1] event
-- ARGV[2] token of the lease
-- ARGV[3] how long the worker may be silent, ms
-- ARGV[4] prefix of the sorted sets of events that are with a worker
--
-- Returns the event's fields and values; none when there is nothing to do.
if redis.call('HGET', KEYS[1], 'lease') ~= ARGV[2] or redis.call('HGET', KEYS[1], 'state') ~= 'pending' then
    return {}
end
local out = ARGV[4] .. redis.call('HGET', KEYS[1], 'target')
if not redis.call('ZSCORE', out, ARGV[1]) then
    return {}
end
local time = redis.call('TIME')
redis.call('ZADD', out, 'XX', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3], ARGV[1])
return redis.call('HGETALL', KEYS[1])
