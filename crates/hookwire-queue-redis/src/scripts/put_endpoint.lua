-- Writes the state of an endpoint if its version is still the one that was read, or removes it.
--
-- ARGV[7], ARGV[8], ARGV[9]  the endpoint, the version (0: none), the state; empty: it is to be removed
-- Reply: {1, version}, or {0, what is there or empty}.
makes_room()
local found = call('HGET', P .. 'endpoints', ARGV[7])
local version = found and string.match(found, '^%d+') or '0'
if version ~= ARGV[8] then
  return {0, found or ''}
end
local written = '0'
if ARGV[9] == '' then
  call('HDEL', P .. 'endpoints', ARGV[7])
else
  -- Versions only grow, also over a removal.
  written = text(found and tonumber(version) + 1 or math.floor(now / 1000))
  call('HSET', P .. 'endpoints', ARGV[7], written .. ' ' .. ARGV[9])
end
done()
return {1, written}
