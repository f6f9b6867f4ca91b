-- Takes a batch in of which some are known, or for which there may be no room without more ado. `publish_new` comes before
-- and tells the arguments and the reply.

-- The newest number of an id, if it is still to be recognised.
local latest = {}
local function recognised(id)
  local value = latest[id]
  if value then
    local seq, at = remembered(value)
    return within_window(seq, at) and seq
  end
end
local function size(number)
  return tonumber(string.sub(SIZES, 7 * number - 6, 7 * number))
end
local more, news = 0, 0
for number, id in ipairs(names) do
  if latest[id] == nil then
    latest[id] = known[number]
    if not recognised(id) then
      news = news + 1
      more = more + size(number)
    end
  end
end
if news > 0 and M.pending_bytes + more > PENDING_MAX then
  -- A lease that ran out may make room: what was leased may have given way to a newer delivery.
  catch_up()
  write_events()
end
if news > 0 and M.pending_bytes + more > PENDING_MAX then
  done()
  return {'full', text(M.pending_bytes)}
end

local reply
if is_new then
  reply = take_all()
else
  reply = {}
  news_events = news_events or M.leased_to == M.seq and news > 0
  for number, id in ipairs(names) do
    local seq = recognised(id)
    if seq then
      reply[number] = -seq
    else
      latest[id] = accept(id, ARGV[VALUES + number], size(number), latest[id], now, 'e')
      reply[number] = M.seq
    end
  end
end
forget_ids(2 * COUNT)
done()
return reply
