-- Writes the state of an endpoint if its version is still the one that was read.
--
-- ARGV[7], ARGV[8], ARGV[9]  the endpoint, the version (0: none), the state
-- Reply: {1, version}, or {0, what is there or empty}.
makes_room()
local found = call('HGET', P .. 'endpoints', ARGV[7])
local version = found and string.match(found, '^%d+') or '0'
if version ~= ARGV[8] then
  return {0, found or ''}
end
local written = text(tonumber(version) + 1)
call('HSET', P .. 'endpoints', ARGV[7], written .. ' ' .. ARGV[9])
done()
return {1, written}
