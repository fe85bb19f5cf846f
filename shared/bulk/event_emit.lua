-- Makes the events of some segments of a job, or its final ones, and moves the job's cursor past them; the first time only.
--
-- KEYS[1] hash of the job
-- KEYS[2] sorted set of its events
-- KEYS[3] sorted set of lanes, by when to look at them
-- KEYS[4] set of jobs that have callbacks to send
-- ARGV[1] job
-- ARGV[2] where the caller believes its cursor to be
-- ARGV[3] where it is to be
-- ARGV[4] what tells this end of the job from another; empty while it is not at its end
-- ARGV[5] now, Unix seconds
-- ARGV[6] prefix of the hashes of events
-- ARGV[7] prefix of the sorted sets of events that wait
-- ARGV[8] whom they are for: 'own' the job's own receivers, 'others' those that only hear how it ended
-- ARGV[9...] for each event: its id, target, lane, segment, type
--
-- Returns 1 if they were made now, 0 if they had been, -1 if the job is gone.
local job, final = ARGV[1], ARGV[4]
local cursor = redis.call('HGET', KEYS[1], 'callback_cursor')
if not cursor then
    redis.call('SREM', KEYS[4], job)
    return -1
end
if cursor ~= ARGV[2] then
    return 0
end
local own = ARGV[8] == 'own'
if final ~= '' and own then
    redis.call('SREM', KEYS[4], job)
    if redis.call('HGET', KEYS[1], 'callbacks_final') == final then
        return 0
    end
    redis.call('HSET', KEYS[1], 'callbacks_final', final)
elseif final ~= '' then
    if redis.call('HGET', KEYS[1], 'callbacks_announced') == final then
        return 0
    end
    redis.call('HSET', KEYS[1], 'callbacks_announced', final)
end
redis.call('HSET', KEYS[1], 'callback_cursor', ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for index = 9, #ARGV, 5 do
    local id, target, lane = ARGV[index], ARGV[index + 1], ARGV[index + 2]
    redis.call('HSET', ARGV[6] .. id, 'job', job, 'target', target, 'lane', lane, 'segment', ARGV[index + 3],
        'type', ARGV[index + 4], 'own', own and 1 or 0,
        'created_at', ARGV[5], 'state', 'pending', 'attempts', 0, 'lease', 0, 'log', '[]')
    redis.call('ZADD', KEYS[2], ARGV[5], id)
    redis.call('ZADD', ARGV[7] .. lane, now, id)
    redis.call('ZADD', KEYS[3], 'LT', now, lane)
    if own then
        redis.call('HINCRBY', KEYS[1], 'callbacks_pending', 1)
    end
end
return 1
