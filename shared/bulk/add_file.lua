-- Adds a file's record, and its bytes to what is stored: once, however often it is sent.
--
-- KEYS: the record, the counter of bytes, then the indexes that list the file.
-- ARGV: the record as JSON, the file, its creation (Unix s), its bytes (0 where they are counted elsewhere).
local is_new = redis.call('EXISTS', KEYS[1]) == 0
redis.call('SET', KEYS[1], ARGV[1])
for at = 3, #KEYS do
  redis.call('ZADD', KEYS[at], ARGV[3], ARGV[2])
end
if is_new then
  redis.call('INCRBY', KEYS[2], ARGV[4])
end
return is_new and 1 or 0
