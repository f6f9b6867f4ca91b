-- Writes how many shards there are, if what was read is still so.
--
-- KEYS[1]  the key that tells; ARGV[1], ARGV[2]  what was read, what to write
-- Reply: 1, or 0 if somebody else wrote in between.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
