-- Adds numbers to hashes once, however often it is sent: after a lost answer it is sent again.
--
-- KEYS: mark of this batch of numbers, then the hash of each number.
-- ARGV: how long the mark is kept and how long hashes are kept after their last change, in seconds; then field and number of each.
-- Returns 1 if it added them, 0 if that had been done.
if not redis.call('SET', KEYS[1], 1, 'NX', 'EX', ARGV[1]) then
  return 0
end
for at = 2, #KEYS do
  redis.call('HINCRBY', KEYS[at], ARGV[2 * at - 1], ARGV[2 * at])
  redis.call('EXPIRE', KEYS[at], ARGV[2])
end
return 1
