-- Leases deliveries that are due, one of each endpoint in turn.
--
-- ARGV[7]  how long the lease lasts, in microseconds
-- ARGV[8]  how many at most
-- ARGV[9]  how many of an endpoint that is not named
-- ARGV[10..]  endpoint, how many, and so on
-- Reply: the time, the last news, when the next lease of anybody runs out, in how many microseconds
-- the next delivery is due (-1: none waits), the token of all leases, {id, record, and so on}, {number, entry, and so
-- on} with each event once.
local LEASE, MAX, ROOM = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local rooms = {['-'] = math.huge}
for at = 10, #ARGV, 2 do
  rooms[ARGV[at]] = tonumber(ARGV[at + 1])
end
local function room(place)
  return rooms[place] or ROOM
end

makes_room()
catch_up()

-- What waited for an earlier event to be settled comes back when it was.
local unsettled
if call('EXISTS', STALLED) == 1 then
  unsettled = first_unsettled()
  for _, id in ipairs(call('ZRANGEBYSCORE', STALLED, '-inf', unsettled)) do
    local d = load(id)
    call('ZREM', STALLED, id)
    call('ZADD', backlog(d), d.u, name(id, d))
    touch(d.p or '-')
  end
end
write_places()

-- Places whose time has come. In `ready` they stand in the order of their names.
while true do
  local come = call('ZRANGEBYSCORE', PLACES, '-inf', now, 'LIMIT', 0, 500)
  if #come == 0 then
    break
  end
  local ready = {}
  for number, place in ipairs(come) do
    ready[2 * number - 1], ready[2 * number] = 0, place
    -- Its hold is over.
    touch(place)
  end
  many('ZADD', READY, ready)
  many('ZREM', PLACES, come)
end
touched = {}

-- Reads on in the backlog of a place: deliveries that are due and that order does not keep back.
local function read_on(turn, count)
  turn.more = false
  local found = call('ZRANGEBYSCORE', turn.key, '-inf', now, 'LIMIT', turn.read, count + 1)
  for number, member in ipairs(found) do
    if number > count then
      turn.more = true
      break
    end
    turn.read = turn.read + 1
    local is_free = true
    if #member == 29 then
      unsettled = unsettled or first_unsettled()
      local id = string.sub(member, 1, 28)
      if unsettled < seq_of(id) then
        is_free = false
        call('ZREM', turn.key, member)
        call('ZADD', STALLED, seq_of(id), id)
        turn.read = turn.read - 1
      end
    end
    if is_free then
      turn.ready[#turn.ready + 1] = member
    end
  end
end

-- The first that may go; nothing, if none may.
local function first_of(turn, count)
  while not turn.ready[turn.next] and turn.more do
    read_on(turn, count)
  end
  return turn.ready[turn.next]
end

-- The places in turn, beginning after the one served last: as many as can be served, and one more, which tells that
-- something is left behind.
local turns = {}
local share = math.max(1, math.floor(MAX / math.max(1, math.min(call('ZCARD', READY), MAX)))) + 1
local function visit(from, to)
  while #turns <= MAX do
    local places = call('ZRANGEBYLEX', READY, from, to, 'LIMIT', 0, 128)
    for _, place in ipairs(places) do
      if room(place) > 0 then
        local turn = {
          place = place, key = P .. 'b:' .. place, room = room(place), ready = {}, next = 1, read = 0, more = true,
          chosen = {}
        }
        touch(place)
        if first_of(turn, share) then
          turns[#turns + 1] = turn
        end
        if #turns > MAX then
          return
        end
      end
    end
    if #places < 128 then
      return
    end
    from = '(' .. places[128]
  end
end
if M.served then
  visit('(' .. M.served, '+')
  visit('-', '[' .. M.served)
else
  visit('-', '+')
end

local chosen, from_place, leases, tokens = {}, {}, {}, {}
local ends, token = now + LEASE, nil
repeat
  local before_round = #chosen
  for _, turn in ipairs(turns) do
    if #chosen < MAX and turn.room > 0 then
      local member = first_of(turn, math.max(share, 16))
      if member then
        turn.next, turn.room = turn.next + 1, turn.room - 1
        turn.chosen[#turn.chosen + 1] = member
        M.served = turn.place
        token = token or next_token()
        local id = string.sub(member, 1, 28)
        chosen[#chosen + 1] = id
        from_place[#chosen] = turn.place
        leases[2 * #chosen - 1], leases[2 * #chosen] = ends, id
        tokens[2 * #chosen - 1], tokens[2 * #chosen] = id, token
      end
    end
  end
until #chosen == before_round
local left_behind = false
for _, turn in ipairs(turns) do
  left_behind = left_behind or first_of(turn, 1) ~= nil
  many('ZREM', turn.key, turn.chosen)
end
many('ZADD', LEASES, leases)
many('HSET', HELD, tokens)
M.waiting, M.running = M.waiting - #chosen, M.running + #chosen
write_places()

local next_due = -1
if left_behind then
  next_due = 0
else
  local from = 0
  while next_due < 0 do
    local places = call('ZRANGE', PLACES, from, from + 63, 'WITHSCORES')
    for number = 1, #places, 2 do
      if room(places[number]) > 0 then
        next_due = math.max(0, tonumber(places[number + 1]) - now)
        break
      end
    end
    if #places < 128 then
      break
    end
    from = from + 64
  end
end

local deliveries, entries, seen = {}, {}, {}
for number, packed in ipairs(fields(REC, chosen)) do
  local seq = seq_of(chosen[number])
  deliveries[2 * number - 1], deliveries[2 * number] = chosen[number], packed
  if not seen[seq] then
    local published = entry(seq)
    seen[seq] = size_of(published)
    entries[#entries + 1] = seq
    entries[#entries + 1] = published
  end
  if from_place[number] ~= '-' then
    grow(from_place[number], -1, -seen[seq])
  end
end
local next_at = next_end()
done()
return {text(now), M.news_deliveries, text(next_at), text(next_due), token or '', deliveries, entries}
