-- Gives a runner a segment: first one whose runner has stopped renewing its claim, else the next one.
--
-- KEYS[1] hash of the job
-- KEYS[2] sorted set of its claims
-- ARGV[1] how long the claim lasts without renewal, ms
--
-- Returns the number of the segment, or -1 when there is none to give.
local state, failing = unpack(redis.call('HMGET', KEYS[1], 'state', 'failing'))
if failing == '1' or (state ~= 'receiving' and state ~= 'in_progress') then
    return -1
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local segment = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1)[1]
if not segment then
    local following = tonumber(redis.call('HGET', KEYS[1], 'next'))
    if following >= tonumber(redis.call('HGET', KEYS[1], 'segments')) then
        return -1
    end
    redis.call('HINCRBY', KEYS[1], 'next', 1)
    segment = following
end
redis.call('ZADD', KEYS[2], now + ARGV[1], segment)
return tonumber(segment)
