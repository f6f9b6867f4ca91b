-- Gives up deliveries that have waited for too long.
--
-- ARGV[7]  how old they have to be, in microseconds
-- ARGV[8]  the number of the event after which to begin
-- ARGV[9]  how many deliveries to look at, about
-- Reply: how many became dead letters; the number of the event after which to go on, -1 if nothing else is old enough.
local AGE, MAX = tonumber(ARGV[7]), tonumber(ARGV[9])
makes_room()
catch_up()

local dead, looked, last = 0, 0, -1
for _, number in ipairs(call('ZRANGEBYSCORE', P .. 'open', '(' .. ARGV[8], '+inf', 'LIMIT', 0, MAX)) do
  local seq = tonumber(number)
  local accepted_at = tonumber(string.sub(entry(seq), 1, 16))
  if looked >= MAX or now - accepted_at < AGE then
    break
  end
  last = number
  for _, digest in ipairs(ev(seq).digests) do
    local id = delivery_id(seq, digest)
    local d = load(id)
    looked = looked + 1
    if d.s == 'w' and not d.held and now - (d.c or accepted_at) >= AGE then
      unplace(id, d)
      settle(d, {t = 'x', dr = 'backlog_limit'}, now)
      place(id, d)
      dead = dead + 1
    end
  end
end
done()
return {text(dead), looked >= MAX and last or '-1'}
