-- Takes a batch in of which some are known, for which there may be no room without more ado, or before which others are to
-- be taken in. `publish_new` comes before and tells the arguments and the reply.

if others_first then
  -- Who waits for events that were published has not seen them.
  news_events = news_events or M.leased_to == M.seq
  take_in(8)
  if call('XLEN', P .. 'in') > 0 then
    drop_batches()
    done()
    return {'again'}
  end
  -- Their ids are known now.
  look_up()
end

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
-- An event's id, a blank, and the payload; of one after the other.
local at_batch, before_batch = 1, 0
local function value_of_new(number)
  if NEW == '' then
    return ARGV[REST + number]
  end
  while number > before_batch + ARGV[REST + at_batch] do
    before_batch, at_batch = before_batch + ARGV[REST + at_batch], at_batch + 1
  end
  return (in_batch(NEW .. at_batch, tonumber(ARGV[REST + at_batch]), number - before_batch - 1))
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
  drop_batches()
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
      latest[id] = accept(id, value_of_new(number), size(number), latest[id], now, 'e')
      reply[number] = M.seq
    end
  end
  drop_batches()
end
forget_ids(2 * COUNT)
done()
return reply
