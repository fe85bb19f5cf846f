-- Renew the leases of a tenant's places that are taken.
-- KEYS: the tenant's places.
-- ARGV: length of a lease in ms, then the places' names.
local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
for index = 2, #ARGV do
  redis.call('ZADD', KEYS[1], 'XX', ends, ARGV[index])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
