-- Takes a batch of events in, whole or not at all.
--
-- ARGV[7]  how many events
-- ARGV[8]  bytes of all payloads, if no id comes twice; else nothing
-- ARGV[9]  what the names of the keys begin with in which commands before this script have put the events as batches,
--   numbered from 1; nothing, if the events stand below
-- ARGV[10]  seven digits of each payload's size
-- ARGV[11..]  their ids; then how many events each batch has; or for each event the id, a blank, and the payload
-- Reply: the number of the first, if all are new; else a number for each event, negative for a duplicate; or, beyond the
-- limit, {'full', pending bytes}; or {'again'}, if so many came by plain XADD before that they are not all taken in yet.
local COUNT = tonumber(ARGV[7])
local BYTES = tonumber(ARGV[8])
local NEW, SIZES, REST = ARGV[9], ARGV[10], 10 + COUNT
-- What is not taken in as a batch does not stay.
local function drop_batches()
  for place = 1, NEW == '' and 0 or #ARGV - REST do
    call('UNLINK', NEW .. place)
  end
end
if M.closed > 0 then
  drop_batches()
  return redis.error_reply('HWCLOSED the shard takes no new events')
end
local names = {}
for number = 1, COUNT do
  names[number] = ARGV[10 + number]
end
local known, is_new
local function look_up()
  known, is_new = fields(IDS, names), BYTES ~= nil
  for number = 1, COUNT do
    is_new = is_new and not known[number]
  end
end
look_up()

-- What is handed over stands in the listener's stream as well.
local HANDED_MAX, HANDED_BYTES_MAX = 8, 65536

-- Somebody who listens: of some, the one that takes most. Those that are not there any more are forgotten: they did not say
-- so again in time, or the connection was closed that has subscribed to a channel of the stream's name. Nobody, if something
-- else waits to be leased.
local function find_listener()
  if NEW ~= '' or COUNT > HANDED_MAX or BYTES > HANDED_BYTES_MAX or M.gate == 1 then
    return
  end
  local some, found = call('HRANDFIELD', LISTENERS, 4, 'WITHVALUES'), nil
  if #some == 0 or call('EXISTS', FREE, SUSPECTS) > 0 then
    return
  end
  for place = 1, #some, 2 do
    local name, till, lasts, takes = some[place], string.match(some[place + 1], '^(%d+) (%d+) (%d+)$')
    takes = tonumber(takes)
    if now >= tonumber(till) then
      call('HDEL', LISTENERS, name)
    elseif not found or takes > found.takes then
      local subscribers = redis.pcall('PUBSUB', 'NUMSUB', stream_of(name))
      if subscribers.err then
        return
      elseif subscribers[2] == 0 then
        call('HDEL', LISTENERS, name)
      else
        found = {name = name, till = till, lasts = tonumber(lasts), takes = takes}
      end
    end
  end
  return found
end

-- Leases new events to one who is listening.
local function hand_over(listener, first)
  local token, said = open_run(first, COUNT, SIZES, now + listener.lasts), {}
  leased_up_to(M.seq)
  for number = 1, COUNT do
    said[2 * number - 1], said[2 * number] = text(first + number - 1) .. '-' .. text(now), ARGV[REST + number]
  end
  local stream = stream_of(listener.name)
  call('XADD', stream, token .. '-1', unpack(said))
  call('PEXPIRE', stream, math.ceil(listener.lasts / 1000))
  -- Whoever leases next need not read it once more.
  redis.pcall('XGROUP', 'SETID', EVENTS, 'lease', said[2 * COUNT - 1])
  if listener.takes > 1 then
    local left = listener.till .. ' ' .. text(listener.lasts) .. ' ' .. text(listener.takes - 1)
    call('HSET', LISTENERS, listener.name, left)
  else
    call('HDEL', LISTENERS, listener.name)
  end
end

-- Takes in a batch of which all are new, in as few steps as there can be, and gives the number of the first.
local function take_all()
  local first, ids, stamp, suffix = M.seq + 1, {}, ' ' .. text(now), '-' .. text(now)
  -- Whoever found nothing to lease did so when everything was leased: the first event after that is news, the others
  -- need not be told.
  local is_news = M.leased_to == M.seq
  for number = 1, COUNT do
    local digits = text(M.seq + number)
    if NEW == '' then
      call('XADD', EVENTS, digits .. suffix, 'e', ARGV[REST + number])
    end
    ids[2 * number - 1], ids[2 * number] = names[number], digits .. stamp
  end
  if NEW ~= '' then
    local begins, batches = first, {}
    for number = 1, #ARGV - REST do
      local digits, key = text(begins), NEW .. number
      batches[2 * number - 1], batches[2 * number] = begins, digits .. ':' .. ARGV[REST + number] .. ':' .. text(now)
      call('PERSIST', key)
      call('RENAME', key, P .. 'e:' .. digits)
      begins = begins + ARGV[REST + number]
    end
    many('ZADD', BATCHES, batches)
  end
  M.seq = M.seq + COUNT
  M.pending_bytes = M.pending_bytes + BYTES
  many('HSET', IDS, ids)
  call('RPUSH', ID_QUEUE, text(first) .. ' ' .. COUNT .. stamp .. ' ' .. table.concat(names, ' '))
  local listener = is_news and find_listener()
  if listener then
    hand_over(listener, first)
  else
    news_events = news_events or is_news
    write_sizes(first, SIZES)
  end
  return first
end

-- What came by plain XADD came before.
local others_first = call('XLEN', P .. 'in') > 0
if is_new and not others_first and M.pending_bytes + BYTES <= PENDING_MAX and not ids_are_old() then
  local first = take_all()
  tell_news()
  write_meta()
  return first
end
