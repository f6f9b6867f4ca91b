-- Leases events where there is more to look at than `lease_runs` does, which comes before and tells the arguments and the
-- reply.

catch_up()
if M.closed == 0 then
  take_in(1)
end

-- Those that were leased before: the released ones, and so many of the suspects.
local chosen = {}
if MAX > 0 then
  for _, seq in ipairs(call('ZRANGE', FREE, 0, MAX - 1)) do
    chosen[#chosen + 1] = {tonumber(seq), FREE}
  end
  if SUSPECTS_MAX > 0 then
    for _, seq in ipairs(call('ZRANGE', SUSPECTS, 0, math.min(MAX, SUSPECTS_MAX) - 1)) do
      chosen[#chosen + 1] = {tonumber(seq), SUSPECTS}
    end
  end
  table.sort(chosen, function(a, b) return a[1] < b[1] end)
end
local token
for place = 1, math.min(MAX, #chosen) do
  local seq, from = unpack(chosen[place])
  local member, published = 'E' .. text(seq), entry(seq)
  call('ZREM', from, text(seq))
  if published then
    token = token or next_token()
    call('ZADD', LEASES, ends, member)
    call('HSET', HELD, member, token)
    local losses = tonumber(call('HGET', LOSSES, text(seq)) or 0)
    local digests = {}
    if has_value(seq) then
      local h = unfold(seq)
      digests = h.digests
    end
    singles[#singles + 1] = {seq, token, losses, published, digests}
  else
    -- Somebody took it out of the stream: there is nothing left to do for it.
    call('ZREM', UNSETTLED, text(seq))
    call('HDEL', LOSSES, text(seq))
  end
end

lease_runs(MAX - #singles)
forget_runs()
local next_at = next_end()
done()
return reply(next_at)
