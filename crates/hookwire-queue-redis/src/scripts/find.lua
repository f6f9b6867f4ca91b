-- The numbers under which an event id is known, the newest first.
--
-- ARGV[7]  the id
local known = call('HGET', IDS, ARGV[7])
local numbers = {}
if known then
  local seq, _, earlier = remembered(known)
  numbers[1] = seq
  for number in string.gmatch(earlier, '%d+') do
    numbers[#numbers + 1] = tonumber(number)
  end
end
return numbers
