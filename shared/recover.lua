-- Puts the unacknowledged messages of a worker whose lease has ended back at the head of their queues.
-- Atomic: whoever calls it, and however often, each message is moved once.
-- KEYS[1] sorted set of leases     KEYS[2] counter of lost workers
-- KEYS[3] what of its suspects the worker was running (delivery tag, and position of the request in its task)
-- ARGV[1] worker id                ARGV[2] prefix of the unacked hashes (delivery tag -> kombu's entry)
-- ARGV[3] prefix of the delivery counters
-- ARGV[4] deaths after which a message is a dead letter
-- ARGV[5] '1' where such workers run suspects one by one, else '0'
-- Returns {messages put back, {{delivery tag, queue, deaths, message} of each that is given up}}: letter and answer are for
-- the caller to write.
local worker = ARGV[1]
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[1], worker)
if not lease or tonumber(lease) > ms then
  return {0, {}}
end

local unacked = ARGV[2] .. worker
local running, position = string.match(redis.call('GET', KEYS[3]) or '', '^(.*) (%d+)$')
local isolates = ARGV[5] == '1'
local entries = redis.call('HGETALL', unacked)
local restored, dead = 0, {}

local function put_back(tag, message, queue)
  -- The first death counts for all that the worker held, since nobody knows which it was, and makes suspects of them. From
  -- then on the one that was running alone counts, and not what had been taken and never begun. A worker that has named
  -- none has run none of them alone (it is of an older version, or died before it came to that): all count, so that its
  -- like are not killed for ever.
  local unmarked = string.match(message, '^{"suspect":%s*%w+(.*)')
  local deaths = 0
  if not unmarked or not running or running == tag then
    deaths = redis.call('INCR', ARGV[3] .. tag)
    redis.call('EXPIRE', ARGV[3] .. tag, 3600)
  end
  if isolates and not unmarked then
    message = '{"suspect":true,' .. string.sub(message, 2)
  elseif unmarked and running == tag then
    message = '{"suspect":' .. position .. unmarked
  end
  if deaths >= tonumber(ARGV[4]) then
    dead[#dead + 1] = {tag, queue, deaths, message}
  else
    redis.call('RPUSH', queue, message)
    restored = restored + 1
  end
end

for i = 1, #entries, 2 do
  local tag, entry = entries[i], entries[i + 1]
  -- kombu's entry is the JSON list [message, "exchange", "routing key"]. Cutting the message out of the text keeps it
  -- as it was sent; decoding and encoding it in Lua would turn its empty lists into objects.
  local message = string.match(entry, '^%[(.*})%s*,')
  local queue = string.match(entry, '"([^"]*)"%s*%]$')
  if message and queue then
    put_back(tag, message, queue)
  else
    -- Nobody of ours has written it, and it does not say where it belongs.
    dead[#dead + 1] = {tag, queue or '', 1, entry}
  end
end
redis.call('INCR', KEYS[2])
redis.call('DEL', unacked, KEYS[3])
redis.call('ZREM', KEYS[1], worker)
return {restored, dead}
