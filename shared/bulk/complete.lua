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
-- Also keeps `rate`, documents per second, averaged over about the last 15 seconds, or since the job has had segments where
-- that is less: an average that begins at 0, divided by the weight that it has by then (Adam's bias correction,
-- arXiv:1412.6980, section 3). Who resumes a job lets both begin again.
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
local rated = redis.call('HMGET', KEYS[1], 'rated_at', 'rate_sum', 'rate_weight')
local seconds = math.max(now - tonumber(rated[1] or now), 0.001)
local kept = math.exp(-seconds / 15)
local sum = tonumber(rated[2] or '0') * kept + (1 - kept) * (ARGV[2] + ARGV[3]) / seconds
local weight = tonumber(rated[3] or '0') * kept + 1 - kept
redis.call('HSET', KEYS[1], 'rate', string.format('%.6g', sum / weight), 'rated_at', string.format('%.6f', now),
    'rate_sum', string.format('%.9g', sum), 'rate_weight', string.format('%.9g', weight))
return 1
