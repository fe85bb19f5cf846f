-- Tells a worker what to deliver, and renews its lease, unless the event has been given to another since.
--
-- KEYS[1] hash of the event
-- KEYS[2, 3] sorted sets of events that are under way to new receivers, and to slow ones
-- ARGV[1] event
-- ARGV[2] token of the lease
-- ARGV[3] how long the worker may be silent, ms
-- ARGV[4] prefix of the sorted sets of events that are with a worker
--
-- Returns the event's fields and values; none when there is nothing to do.
if redis.call('HGET', KEYS[1], 'lease') ~= ARGV[2] or redis.call('HGET', KEYS[1], 'state') ~= 'pending' then
    return {}
end
local out = ARGV[4] .. (redis.call('HGET', KEYS[1], 'lane') or redis.call('HGET', KEYS[1], 'target'))
if not redis.call('ZSCORE', out, ARGV[1]) then
    return {}
end
local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
for _, set in ipairs({out, KEYS[2], KEYS[3]}) do
    redis.call('ZADD', set, 'XX', ends, ARGV[1])
end
return redis.call('HGETALL', KEYS[1])
