-- Which event ids a closed shard still recognises.
--
-- ARGV[7..]  the ids
-- Reply: 1 if it recognises none any more; for each id its number, or 0.
local reply = {(M.closed == 0 or now - M.closed >= DEDUP_WINDOW) and 1 or 0}
local names = {}
for at = 7, #ARGV do
  names[#names + 1] = ARGV[at]
end
for number, value in ipairs(fields(IDS, names)) do
  local seq, at = 0, 0
  if value then
    seq, at = remembered(value)
  end
  reply[number + 1] = seq > 0 and within_window(seq, at) and seq or 0
end
return reply
