-- Takes a batch of events in, whole or not at all.
--
-- ARGV[7]  how many events
-- ARGV[8..]  their ids; then for each the id, a blank, and the payload; then seven digits of each payload's size
-- Reply: the number of the first, if all are new; else a number for each event, negative for a duplicate; or, beyond the
-- limit, {'full', pending bytes}.
if M.closed > 0 then
  return redis.error_reply('HWCLOSED the shard takes no new events')
end
local COUNT = tonumber(ARGV[7])
local VALUES, SIZES = 7 + COUNT, ARGV[8 + 2 * COUNT]
local names = {}
for number = 1, COUNT do
  names[number] = ARGV[7 + number]
end
local known = fields(IDS, names)

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

local more, news, never_seen = 0, 0, 0
for number, id in ipairs(names) do
  if latest[id] == nil then
    latest[id] = known[number]
    never_seen = never_seen + (known[number] and 0 or 1)
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

-- Whoever found nothing to lease did so when everything was leased: the first event after that is news, the others
-- need not be told.
news_events = M.leased_to == M.seq and news > 0
local reply
if never_seen == COUNT then
  -- The usual case, in as few steps as there can be.
  reply = M.seq + 1
  local ids, stamp, suffix = {}, ' ' .. text(now), '-' .. text(now)
  for number = 1, COUNT do
    local digits = text(M.seq + number)
    call('XADD', EVENTS, digits .. suffix, 'e', ARGV[VALUES + number])
    ids[2 * number - 1], ids[2 * number] = names[number], digits .. stamp
  end
  M.seq = M.seq + COUNT
  M.pending_bytes = M.pending_bytes + more
  many('HSET', IDS, ids)
  call('RPUSH', ID_QUEUE, text(reply) .. ' ' .. COUNT .. stamp .. ' ' .. table.concat(names, ' '))
  write_sizes(reply, SIZES)
else
  reply = {}
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
