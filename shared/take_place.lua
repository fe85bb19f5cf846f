-- Take one of a tenant's places for requests at a time, if there is one; a place that is not kept is free when its lease ends.
-- KEYS: the tenant's places, a sorted set of names by the end of their lease (ms, this server's clock).
-- ARGV: how many there are, the place's name, length of a lease in ms.
-- Returns 1 if it was taken, else 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
