-- Puts what a scan of another store gave into this one.
--
-- ARGV[7..]  id, payload, when it was accepted, 1 if it is to be fanned out, MessagePack {deliveries}, and so on. A
--   delivery is a record with k = digest, u = in how many microseconds it is due, and l = {{n = number, j = attempt}}.
-- Reply: how many events were new.
if M.closed > 0 then
  return redis.error_reply('HWCLOSED the shard takes no new events')
end
makes_room()
catch_up()

-- Whether an event came over before: one of its id that was accepted when it was. Another one may have had the id, long
-- enough before or after to be no duplicate. What is gone and still within the window tells no time, and is taken for it.
local function came_over(known, accepted_at)
  local seq, remembered_at, earlier = remembered(known)
  for number in string.gmatch(text(seq) .. earlier, '%d+') do
    local published = entry(tonumber(number), ID_BYTES)
    if published and tonumber(string.sub(published, 1, 16)) == accepted_at then
      return true
    end
  end
  return not is_kept(seq) and within_window(seq, remembered_at)
end

local new = 0
for at = 7, #ARGV, 5 do
  local id, payload, accepted_at = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local known = call('HGET', IDS, id)
  if not known or not came_over(known, accepted_at) then
    new = new + 1
    accept(id, id .. ' ' .. payload, #payload, known, accepted_at, 'e')
    local seq = M.seq
    if ARGV[at + 3] == '1' then
      news_events = true
    else
      call('ZADD', P .. 'ahead', seq, text(seq))
      local h = ev(seq)
      h.queued, h.changed = false, true
      for _, d in ipairs(cmsgpack.unpack(ARGV[at + 4])) do
        local delivery = delivery_id(seq, d.k)
        h.digests[#h.digests + 1] = d.k
        for _, attempt in ipairs(d.l) do
          call('HSET', ATT, delivery .. ':' .. attempt.n, attempt.j)
          d.ab = d.ab + RECORD_BYTES + #attempt.j
        end
        d.k, d.l = nil, nil
        d.u = d.u and now + d.u
        place(delivery, d)
      end
    end
  end
end
while call('ZREM', P .. 'ahead', text(M.leased_to + 1)) == 1 do
  leased_up_to(M.leased_to + 1)
end
done()
return new
