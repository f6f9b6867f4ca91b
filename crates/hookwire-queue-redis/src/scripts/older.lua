-- For how long orders that go on in newer shards have to wait for what this one has of them.
--
-- ARGV[7..]  the orders
-- Reply: 1 if there is unfinished work in this shard; for each order when to ask again, in microseconds (-1: nothing is
-- before it).
local SOON, LATE = 1000000, 60000000
local reply = {M.waiting + M.running + M.dead > 0 and 1 or 0}
for at = 7, #ARGV do
  local first, wait = call('ZRANGE', P .. 'o:' .. ARGV[at], 0, 0)[1], -1
  if first then
    local d = load(first)
    wait = SOON
    if d.s == 'x' then
      -- Only a person ends that.
      wait = LATE
    elseif d.s == 'w' and not d.held then
      local hold = tonumber(call('HGET', P .. 'holds', d.p or '-') or 0)
      wait = math.min(LATE, math.max(SOON, math.max(d.u, hold) - now))
    end
  end
  reply[#reply + 1] = text(wait)
end
return reply
