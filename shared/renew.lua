-- Renews one worker's lease, by the server's clock so that skewed hosts agree.
-- KEYS[1] sorted set of leases: worker id -> end of its lease in milliseconds
-- ARGV[1] worker id   ARGV[2] length of the lease in milliseconds
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZADD', KEYS[1], ms + tonumber(ARGV[2]), ARGV[1])
return 1
