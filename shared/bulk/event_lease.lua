-- Gives out events of a lane whose time has come, as many as its receiver has free slots.
--
-- KEYS[1] sorted set of its events that wait
-- KEYS[2] sorted set of its events that are with a worker
-- KEYS[3] sorted set of lanes, by when to look at them
-- KEYS[4] pace of its receiver: 'prompt', 'slow', or none while it is new
-- KEYS[5] sorted set of events that are under way to new receivers
-- KEYS[6] the same of slow ones
-- ARGV[1] lane
-- ARGV[2] slots of one receiver
-- ARGV[3] how long a worker may be silent, ms
-- ARGV[4] prefix of the hashes of events
-- ARGV[5] slots of all new receivers together; empty for a receiver that has no such bounds
-- ARGV[6] slots of all slow ones together
-- ARGV[7] ms after which a lane is looked at again for which there was no slot
--
-- Returns {event, token of its lease, event, token ...}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
    redis.call('ZREM', KEYS[2], id)
    redis.call('ZADD', KEYS[1], now, id)
end
local pace = ARGV[5] == '' and 'prompt' or redis.call('GET', KEYS[4]) or 'new'
local slots = pace == 'new' and 1 or tonumber(ARGV[2])
local free = slots - redis.call('ZCARD', KEYS[2])
local shared
if pace ~= 'prompt' then
    shared = pace == 'new' and KEYS[5] or KEYS[6]
    redis.call('ZREMRANGEBYSCORE', shared, '-inf', now)
    free = math.min(free, tonumber(pace == 'new' and ARGV[5] or ARGV[6]) - redis.call('ZCARD', shared))
end
local leased = {}
if free > 0 then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, free)) do
        redis.call('ZREM', KEYS[1], id)
        -- A job that was deleted has left its events here.
        if redis.call('EXISTS', ARGV[4] .. id) == 1 then
            redis.call('ZADD', KEYS[2], now + ARGV[3], id)
            if shared then
                redis.call('ZADD', shared, now + ARGV[3], id)
            end
            leased[#leased + 1] = id
            leased[#leased + 1] = redis.call('HINCRBY', ARGV[4] .. id, 'lease', 1)
        end
    end
end
-- Looked at again when a lease ends, or, with a slot free, when the next event is due; but not before it may have a turn.
local waiting = tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2])
local ending = tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2])
local look = ending or waiting
if waiting and redis.call('ZCARD', KEYS[2]) < slots then
    look = math.min(look, waiting)
    if shared and look <= now then
        look = now + ARGV[7]
    end
end
if look then
    redis.call('ZADD', KEYS[3], look, ARGV[1])
else
    redis.call('ZREM', KEYS[3], ARGV[1])
end
return leased
