-- Takes a batch of events in, whole or not at all.
--
-- ARGV[7..]  id, payload, and so on
-- Reply: a number for each event, negative for a duplicate; or, beyond the limit, {'full', pending bytes}.
local names = {}
for at = 7, #ARGV, 2 do
  names[#names + 1] = ARGV[at]
end
local known = fields(IDS, names)

-- The newest number of an id, if it is still to be recognised.
local latest = {}
for number, id in ipairs(names) do
  latest[id] = known[number]
end
local function recognised(id)
  local value = latest[id]
  if value then
    local seq, at = remembered(value)
    return within_window(seq, at) and seq
  end
end

local more, counted = 0, {}
for number, id in ipairs(names) do
  if not counted[id] and not recognised(id) then
    counted[id] = true
    more = more + #ARGV[6 + 2 * number]
  end
end
if more > 0 and M.pending_bytes + more > PENDING_MAX then
  -- A lease that ran out may make room: what was leased may have given way to a newer delivery.
  catch_up()
  write_events()
end
if more > 0 and M.pending_bytes + more > PENDING_MAX then
  done()
  return {'full', text(M.pending_bytes)}
end

-- Whoever found nothing to lease did so when everything was leased: the first event after that is news, the others
-- need not be told.
news_events = M.leased_to == M.seq and more > 0
local reply, ids, queue = {}, {}, {}
for number, id in ipairs(names) do
  local seq = recognised(id)
  if seq then
    reply[number] = -seq
  else
    latest[id] = accept(id, ARGV[6 + 2 * number], latest[id], now, ' ', ids, queue)
    reply[number] = M.seq
  end
end
many('HSET', IDS, ids)
many('RPUSH', ID_QUEUE, queue)
forget_ids(2 * #names)
done()
return reply
