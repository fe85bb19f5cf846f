-- Records how an attempt ended; once for each lease, and never for an event that has ended.
--
-- KEYS[1] hash of the job
-- KEYS[2] hash of the event
-- KEYS[3] sorted set of the lane's events that wait
-- KEYS[4] sorted set of the lane's events that are with a worker
-- KEYS[5] sorted set of the job's events
-- KEYS[6] list of the job's delivered events
-- KEYS[7] sorted set of lanes, by when to look at them
-- KEYS[8] pace of the lane's receiver
-- KEYS[9, 10] sorted sets of events that are under way to new receivers, and to slow ones
-- ARGV[1] event
-- ARGV[2] token of the lease
-- ARGV[3] the event's state from now on: pending (it is tried again), delivered, dead
-- ARGV[4] its log, JSON
-- ARGV[5] ms after which it is tried again
-- ARGV[6] why the job gets no more callbacks; empty if it does
-- ARGV[7] seconds for which an event that has ended is kept
-- ARGV[8] delivered events of the job that are kept
-- ARGV[9] prefix of the hashes of events
-- ARGV[10] lane
-- ARGV[11] pace of its receiver from now on; empty where that does not matter
-- ARGV[12] seconds for which it is remembered
-- ARGV[13] ms for which a slow receiver lets others have a turn
--
-- Returns 1 if it was recorded.
local id, state = ARGV[1], ARGV[3]
local current = redis.call('HGET', KEYS[2], 'state')
if current and current ~= 'pending' then
    return 0
end
-- What has arrived has arrived, whoever else was told to send it in the meantime.
if current and state ~= 'delivered' and redis.call('HGET', KEYS[2], 'lease') ~= ARGV[2] then
    return 0
end
for _, set in ipairs({3, 4, 9, 10}) do
    redis.call('ZREM', KEYS[set], id)
end
if ARGV[11] ~= '' then
    redis.call('SET', KEYS[8], ARGV[11], 'EX', ARGV[12])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local turn = ARGV[11] == 'slow' and now + ARGV[13] or 0
local waiting = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
if waiting then
    redis.call('ZADD', KEYS[7], 'LT', math.max(tonumber(waiting), turn), ARGV[10]) -- there is a free slot now
elseif redis.call('ZCARD', KEYS[4]) == 0 then
    redis.call('ZREM', KEYS[7], ARGV[10])
end
if not current or redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('DEL', KEYS[2])
    return 0
end
if ARGV[6] ~= '' then
    redis.call('HSET', KEYS[1], 'callbacks_stopped', ARGV[6])
end
redis.call('HSET', KEYS[2], 'state', state, 'log', ARGV[4])
redis.call('HINCRBY', KEYS[2], 'attempts', 1)
if state == 'pending' then
    local due = now + ARGV[5]
    redis.call('ZADD', KEYS[3], due, id)
    redis.call('ZADD', KEYS[7], 'LT', due, ARGV[10])
    redis.call('HSET', KEYS[2], 'due_at', due / 1000)
    return 1
end
redis.call('HDEL', KEYS[2], 'due_at')
redis.call('EXPIRE', KEYS[2], ARGV[7])
if redis.call('HGET', KEYS[2], 'own') ~= '0' then
    redis.call('HINCRBY', KEYS[1], 'callbacks_pending', -1)
    redis.call('HINCRBY', KEYS[1], 'callbacks_' .. state, 1)
end
if state == 'delivered' then
    redis.call('LPUSH', KEYS[6], id)
    while redis.call('LLEN', KEYS[6]) > tonumber(ARGV[8]) do
        local oldest = redis.call('RPOP', KEYS[6])
        redis.call('ZREM', KEYS[5], oldest)
        redis.call('DEL', ARGV[9] .. oldest)
    end
end
return 1
