-- Single events, whole.
--
-- ARGV[7..]  numbers
-- Reply: {rows} of those that are there.
makes_room()
catch_up()
done()
local rows = {}
for at = 7, #ARGV do
  local seq = tonumber(ARGV[at])
  local published = entry(seq)
  if published then
    rows[#rows + 1] = row(seq, published, true)
  end
end
return rows
