-- Gives out events of a target whose time has come, as many as it has free slots.
--
-- KEYS[1] sorted set of its events that wait
-- KEYS[2] sorted set of its events that are with a worker
-- KEYS[3] sorted set of targets, by when to look at them
-- ARGV[1] target
-- ARGV[2] slots
-- ARGV[3] how long a worker may be silent, ms
-- ARGV[4] prefix of the hashes of events
--
-- Returns {event, token of its lease, event, token ...}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
    redis.call('ZREM', KEYS[2], id)
    redis.call('ZADD', KEYS[1], now, id)
end
local leased = {}
local free = ARGV[2] - redis.call('ZCARD', KEYS[2])
if free > 0 then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, free)) do
        redis.call('ZREM', KEYS[1], id)
        -- A job that was deleted has left its events here.
        if redis.call('EXISTS', ARGV[4] .. id) == 1 then
            redis.call('ZADD', KEYS[2], now + ARGV[3], id)
            leased[#leased + 1] = id
            leased[#leased + 1] = redis.call('HINCRBY', ARGV[4] .. id, 'lease', 1)
        end
    end
end
-- Looked at again when a lease ends, or, with a slot free, when the next event is due.
local waiting = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local ending = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
local full = redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2])
local look = tonumber(ending or waiting)
if ending and waiting and not full then
    look = math.min(tonumber(ending), tonumber(waiting))
end
if look then
    redis.call('ZADD', KEYS[3], look, ARGV[1])
else
    redis.call('ZREM', KEYS[3], ARGV[1])
end
return leased
