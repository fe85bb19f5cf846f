-- Puts the unacknowledged messages of a worker whose lease has ended back at the head of their queues.
-- Atomic: whoever calls it, and however often, each message is moved once.
-- KEYS[1] sorted set of leases     KEYS[2] list of dead letters (JSON, newest first)
-- KEYS[3] counter of lost workers  KEYS[4] counter of dead letters
-- ARGV[1] worker id                ARGV[2] prefix of the unacked hashes (delivery tag -> kombu's entry)
-- ARGV[3] prefix of the delivery counters
-- ARGV[4] deaths after which a message is a dead letter   ARGV[5] dead letters kept
-- Returns {messages put back, {delivery tag of each dead letter}}.
local worker = ARGV[1]
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[1], worker)
if not lease or tonumber(lease) > ms then
  return {0, {}}
end

local unacked = ARGV[2] .. worker
local entries = redis.call('HGETALL', unacked)
local restored, dead = 0, {}
for i = 1, #entries, 2 do
  local tag, entry = entries[i], entries[i + 1]
  -- kombu's entry is the JSON list [message, "exchange", "routing key"]. Cutting the message out of the text keeps it
  -- as it was sent; decoding and encoding it in Lua would turn its empty lists into objects.
  local message = string.match(entry, '^%[(.*})%s*,')
  local queue = string.match(entry, '"([^"]*)"%s*%]$')
  local deaths = redis.call('INCR', ARGV[3] .. tag)
  redis.call('EXPIRE', ARGV[3] .. tag, 3600)
  if deaths >= tonumber(ARGV[4]) then
    redis.call('LPUSH', KEYS[2], cjson.encode({
      task = tag, queue = queue, worker = worker, deaths = deaths, at = ms / 1000,
      sha1 = redis.sha1hex(message), reason = 'its workers died repeatedly',
    }))
    redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[5]) - 1)
    dead[#dead + 1] = tag
  else
    redis.call('RPUSH', queue, message)
    restored = restored + 1
  end
end
redis.call('INCR', KEYS[3])
if #dead > 0 then
  redis.call('INCRBY', KEYS[4], #dead)
end
redis.call('DEL', unacked)
redis.call('ZREM', KEYS[1], worker)
return {restored, dead}
