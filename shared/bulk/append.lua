-- Registers a segment whose lines are in the store.
--
-- KEYS[1] hash of the job
-- KEYS[2] string of its segments
-- KEYS[3] counter of bytes in the store
-- ARGV[1] documents that the writer believes to be there already
-- ARGV[2] documents of the segment
-- ARGV[3] bytes of the segment
-- ARGV[4] 16 bytes: its end (documents, big endian), its writer
-- ARGV[5] most bytes in the store, 0 for no limit
-- ARGV[6] checksum of all lines of the job up to the segment's end
--
-- Returns {"ok", number of the segment}, {"state", the job's state}, {"offset", documents that are there}, {"full", 0}.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'receiving' and state ~= 'validating' then
    return {'state', state or 'gone'}
end
local received = tonumber(redis.call('HGET', KEYS[1], 'received'))
if received ~= tonumber(ARGV[1]) then
    return {'offset', received}
end
local limit = tonumber(ARGV[5])
if limit > 0 and tonumber(redis.call('GET', KEYS[3]) or '0') + tonumber(ARGV[3]) > limit then
    return {'full', 0}
end
redis.call('APPEND', KEYS[2], ARGV[4])
redis.call('HINCRBY', KEYS[1], 'received', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'received_bytes', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'stored_bytes', ARGV[3])
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'checksum', ARGV[6], 'appended_at', time[1])
redis.call('HSETNX', KEYS[1], 'rated_at', string.format('%.6f', time[1] + time[2] / 1000000))
redis.call('INCRBY', KEYS[3], ARGV[3])
return {'ok', redis.call('HINCRBY', KEYS[1], 'segments', 1) - 1}
