-- Counts a segment whose results are in the store; the first time only.
--
-- KEYS[1] hash of the job
-- KEYS[2] bitmap of segments that are done
-- KEYS[3] sorted set of its claims
-- KEYS[4] string of the sizes of results
-- KEYS[5] counter of bytes in the store
-- ARGV[1] segment
-- ARGV[2] documents that have a result
-- ARGV[3] documents that have an error
-- ARGV[4] tokens
-- ARGV[5] bytes by which the store has grown: of results and errors, less those of the input, which is not needed again
-- ARGV[6] 16 bytes: bytes of its results, bytes of its errors (big endian)
--
-- Also keeps `rate`, documents per second, averaged over about the last 15 seconds.
--
-- Returns 1 if it was counted, 0 if it had been, -1 if the job is gone.
if redis.call('EXISTS', KEYS[1]) == 0 then
    return -1
end
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('SETBIT', KEYS[2], ARGV[1], 1) == 1 then
    return 0
end
redis.call('SETRANGE', KEYS[4], ARGV[1] * 16, ARGV[6])
redis.call('HINCRBY', KEYS[1], 'segments_done', 1)
redis.call('HINCRBY', KEYS[1], 'completed', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'failed', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'tokens', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'stored_bytes', ARGV[5])
redis.call('INCRBY', KEYS[5], ARGV[5])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local rated = redis.call('HMGET', KEYS[1], 'rate', 'rated_at', 'at:in_progress', 'at:receiving')
-- The first segment counts from when the job could begin.
local since = tonumber(rated[2] or rated[4] or rated[3] or now)
local seconds = math.max(now - since, 0.001)
local weight = rated[1] and 1 - math.exp(-seconds / 15) or 1
local rate = tonumber(rated[1] or '0') * (1 - weight) + weight * (ARGV[2] + ARGV[3]) / seconds
redis.call('HSET', KEYS[1], 'rate', string.format('%.6g', rate), 'rated_at', string.format('%.6f', now))
return 1
