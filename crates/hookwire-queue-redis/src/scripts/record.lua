-- Deliveries on record, and what settling and acting make of them. The same as `Record` in hookwire-queue, and held to
-- it by the comparison with the memory backend.
--
-- A delivery's id is 12 hex digits of its event's number and 16 of its digest. Its record is a MessagePack map:
--   s  state: w waiting, r running, x dead, d delivered, c cancelled, s superseded; one that waits and has a lease runs
--   r, w, p  rule, webhook, place      e, o  event, object type      ok, of  order key, on failure
--   n, i, g  attempts, interrupted, forgiven      c  from when its age counts, if not from its acceptance
--   u, wr  due, and what it waits for      f  finished      dr  dead reason      ls, le  last status, last error
--   fl  an attempt failed      a  the numbers of its attempts      ab  what they count in the history
--
-- An event that was settled has a value in `evt`: a class (F finished at its first settlement, P pending, D with dead
-- letters, C finished later), `q` if it is not settled or `-`, 16 digits of when it was finished, 7 of its size, 10 of
-- what it counts in the history, 6 of waiting and running deliveries, 6 of dead ones (class F: of all). Then comes
-- MessagePack {k = digests}; or for class F where that stands which the settlement said: 8 digits of how far from the
-- beginning of a block, 7 of how long, the block's name.
--
-- A block is a string `f:<name>`, what one settlement said of many events of a run, one after the other; then the index:
-- for each event its number, a colon, 6 digits of how many deliveries, 8 of where that which is said of it begins, 7 of
-- how long it is, and a blank; then 8 digits of how long the index is. `blocks` tells how many events still need the
-- block. Those events are in their run, and not in `evt`, where layouts before version 3 had them.
local ATT = P .. 'att'
local COUNTER = {
  w = 'waiting', r = 'running', x = 'dead', d = 'delivered', c = 'cancelled', s = 'superseded'
}
local events, event_order = {}, {}

local function seq_of(id)
  return tonumber(string.sub(id, 1, 12), 16)
end

local function delivery_id(seq, digest)
  return string.format('%012x', seq) .. digest
end

-- The block, place and length of the record of an event of class F.
local function record_of(value)
  return string.sub(value, 63), tonumber(string.sub(value, 48, 55)), tonumber(string.sub(value, 56, 62))
end

local function read_record(value)
  local block, from, length = record_of(value)
  return call('GETRANGE', P .. 'f:' .. block, from, from + length - 1)
end

-- The index of a block: goes through the numbers and where what is said of each stands, both as text.
local function index_of(block)
  local key = P .. 'f:' .. block
  local length = call('STRLEN', key)
  local index = tonumber(call('GETRANGE', key, length - 8, length - 1)) or 0
  return string.gmatch(call('GETRANGE', key, length - 8 - index, length - 9), '(%d+):(%d+)')
end

-- The run that has an event in a block.
local last_run

local function run_with(seq)
  local run = last_run
  if not (run and run.first <= seq and seq < run.first + run.count) then
    local token = call('ZREVRANGEBYSCORE', SPANS, seq, '-inf', 'LIMIT', 0, 1)[1]
    run = token and run_of(token)
    last_run = run
  end
  return run and run.states[seq - run.first + 1] == IN_BLOCK and run
end

-- Whether an event was settled, or is being settled, and is on record.
local function has_value(seq)
  return call('HEXISTS', EVT, text(seq)) == 1 or run_with(seq)
end

-- The value of an event that is in a block, and so not in `evt`; nothing, if it is not.
local function value_in_block(seq)
  local run = run_with(seq)
  if not run then
    return nil
  end
  if not run.values then
    run.values = {}
    for block, at in string.gmatch(run.blocks, ' (%S+) (%d+)') do
      for number, where in index_of(block) do
        run.values[number] = run.values[number] or {at, where .. block}
      end
    end
  end
  local found = run.values[text(seq)]
  return found and 'F-' .. found[1] .. run_size(run, seq - run.first + 1) .. '0000000000000000' .. found[2]
end

local function value_of(seq)
  return call('HGET', EVT, text(seq)) or value_in_block(seq)
end

-- The run has the event in a block no longer.
local function leave_block(run, seq, state)
  run.states[seq - run.first + 1] = state
  run.changed = true
end

-- So many events need a block no longer.
local function release_block(block, count)
  if call('HINCRBY', P .. 'blocks', block, -count) <= 0 then
    call('HDEL', P .. 'blocks', block)
    call('DEL', P .. 'f:' .. block)
  end
end

local function finished(d)
  return d.s == 'd' or d.s == 'c' or d.s == 's'
end

-- An event of which nothing is on record.
local function new_event(seq, size)
  local h = {
    class = 'P', queued = true, at = 0, size = size, bytes = 0, open = 0, dead = 0, open_before = 0, dead_before = 0,
    digests = {}
  }
  events[seq] = h
  event_order[#event_order + 1] = seq
  return h
end

-- An event as class, counts and digests; nothing, if there is no such event.
local function ev(seq)
  local h = events[seq]
  if h == nil then
    local value = value_of(seq)
    if value then
      h = {
        class = string.sub(value, 1, 1), queued = string.sub(value, 2, 2) == 'q',
        at = tonumber(string.sub(value, 3, 18)), size = tonumber(string.sub(value, 19, 25)),
        bytes = tonumber(string.sub(value, 26, 35)), open = tonumber(string.sub(value, 36, 41)),
        dead = tonumber(string.sub(value, 42, 47))
      }
      if h.class == 'F' then
        local block, _, length = record_of(value)
        h.block = block
        h.first, h.dead = cmsgpack.unpack(read_record(value)), 0
        h.bytes = h.size + RECORD_BYTES + length
      else
        h.digests = cmsgpack.unpack(string.sub(value, 48)).k
      end
      h.open_before, h.dead_before = h.open, h.dead
      events[seq] = h
      event_order[#event_order + 1] = seq
    else
      local published = entry(seq)
      h = published and new_event(seq, size_of(published))
      events[seq] = h or false
    end
  end
  return h or nil
end

-- Counts attempts that are not on record yet.
local function attempted(id, d, attempts)
  for _, attempt in ipairs(attempts or {}) do
    local known, newest = false, true
    for _, number in ipairs(d.a) do
      known = known or number == attempt.n
      newest = newest and attempt.n > number
    end
    if not known then
      d.a[#d.a + 1] = attempt.n
      d.ab = d.ab + RECORD_BYTES + #attempt.j
      if id then
        call('HSET', ATT, id .. ':' .. attempt.n, attempt.j)
      end
      if attempt.n <= d.n then
        d.i = math.max(0, d.i - 1)
      else
        d.n = attempt.n
      end
      if newest then
        d.ls = attempt.st or d.ls
        d.le = attempt.er
      end
    end
  end
end

local function clear(d)
  d.wr, d.u, d.f, d.dr = nil, nil, nil, nil
end

local function finish(d, state, at)
  d.s, d.f = state, at
end

local function wait(d, due, reason)
  d.s, d.u, d.wr = 'w', due, reason
end

-- Puts a delivery where its fate says.
local function settle(d, fate, at)
  clear(d)
  if fate.t == 'd' then
    finish(d, 'd', at)
  elseif fate.t == 'x' then
    finish(d, 'x', at)
    d.dr, d.le, d.fl = fate.dr, fate.le or d.le, true
  elseif fate.t == 'w' then
    wait(d, at + fate.u, fate.wr)
    d.fl = d.fl or (fate.a ~= nil and #fate.a > 0) or nil
  else
    d.s = 'r'
  end
end

local function fanned_out(new, event, object_type)
  return {
    s = 'r', r = new.r, w = new.w, p = new.p, ok = new.ok, of = new.of, e = event, o = object_type, n = 0, i = 0,
    g = 0, a = {}, ab = 0
  }
end

-- A delivery that was finished with its event, as a record of its own.
local function of_first(h, id, new)
  local d = fanned_out(new, h.first.e, h.first.o)
  attempted(id, d, new.a)
  settle(d, new, h.at)
  return d
end

-- A delivery, and who holds it; nothing, if it is not on record.
local function load(id)
  local packed = call('HGET', REC, id)
  if packed then
    local d = cmsgpack.unpack(packed)
    d.held = call('HGET', HELD, id)
    return d
  end
  local h = ev(seq_of(id))
  if h and h.first then
    for _, new in ipairs(h.first.d) do
      if new.k == string.sub(id, 13) then
        return of_first(h, nil, new)
      end
    end
  end
end

local function save(id, d)
  local held = d.held
  d.held = nil
  call('HSET', REC, id, cmsgpack.pack(d))
  d.held = held
end

-- Something of an event finished at its first settlement is to be changed: from now on its deliveries are kept one by
-- one.
local function unfold(seq)
  local h = ev(seq)
  if not (h and h.first) then
    return h
  end
  local digests, bytes = {}, h.size
  for place, new in ipairs(h.first.d) do
    local id = delivery_id(seq, new.k)
    local d = of_first(h, id, new)
    save(id, d)
    digests[place] = new.k
    bytes = bytes + RECORD_BYTES + d.ab
  end
  M.history_bytes = M.history_bytes - h.bytes + bytes
  local run = run_with(seq)
  if run then
    leave_block(run, seq, SETTLED)
  end
  release_block(h.block, 1)
  h.class, h.first, h.digests, h.bytes, h.changed = 'C', nil, digests, bytes, true
  call('ZADD', P .. 'closed', h.at, text(seq))
  return h
end

-- Whether it takes part in its order: it goes only when it is the first, and keeps those behind it waiting.
local function in_order(d)
  if not d.ok then
    return false
  end
  if d.s == 'w' or d.s == 'r' then
    return not (d.fl and d.of == 'skip')
  end
  return d.s == 'x' and d.of == 'block'
end

local function backlog(d)
  return P .. 'b:' .. (d.p or '-')
end

-- The name in the backlog of one that order may keep back ends in a plus.
local function name(id, d)
  return in_order(d) and id .. '+' or id
end

-- How much waits for each place: how many deliveries, and under its name and `+` the bytes of their payloads. What a
-- script changes of it is written at its end.
local BACKLOGS = P .. 'backlogs'
local grown = {}

local function grow(place, deliveries, bytes)
  local by = grown[place] or {0, 0}
  by[1], by[2] = by[1] + deliveries, by[2] + bytes
  grown[place] = by
end

local function backlog_bytes(place)
  local by = grown[place] or {0, 0}
  return tonumber(call('HGET', BACKLOGS, place .. '+') or 0) + by[2]
end

local function write_backlogs()
  for place, by in pairs(grown) do
    if by[1] ~= 0 or by[2] ~= 0 then
      call('HINCRBY', BACKLOGS, place .. '+', by[2])
      if call('HINCRBY', BACKLOGS, place, by[1]) <= 0 then
        call('HDEL', BACKLOGS, place, place .. '+')
      end
    end
  end
  grown = {}
end

-- Takes a delivery out of all indexes, and ends its lease, to be changed and put back.
local function unplace(id, d)
  local h = unfold(seq_of(id))
  local state = d.held and 'r' or d.s
  M[COUNTER[state]] = M[COUNTER[state]] - 1
  if state == 'w' or state == 'r' then
    h.open = h.open - 1
  elseif state == 'x' then
    h.dead = h.dead - 1
  end
  h.changed = true
  if state == 'w' then
    call('ZREM', backlog(d), name(id, d))
    touch(d.p or '-')
    if d.p then
      grow(d.p, -1, -h.size)
    end
    if d.ok then
      call('ZREM', STALLED, id)
    end
  end
  if in_order(d) then
    call('ZREM', P .. 'o:' .. d.ok, id)
  end
  if d.held then
    call('ZREM', LEASES, id)
    call('HDEL', HELD, id)
    d.held = false
  end
end

local reorder

-- Puts a delivery that nobody holds into all indexes.
local function place(id, d, quietly)
  local h = ev(seq_of(id))
  M[COUNTER[d.s]] = M[COUNTER[d.s]] + 1
  if d.s == 'w' or d.s == 'r' then
    h.open = h.open + 1
  elseif d.s == 'x' then
    h.dead = h.dead + 1
  end
  if d.s == 'w' and d.p then
    grow(d.p, 1, h.size)
  end
  h.changed = true
  save(id, d)
  if in_order(d) then
    call('ZADD', P .. 'o:' .. d.ok, 0, id)
  elseif d.s == 'w' then
    call('ZADD', backlog(d), d.u, id)
    touch(d.p or '-')
  end
  news_deliveries = news_deliveries or d.s == 'w' or d.ok ~= nil
  if d.ok and not quietly then
    reorder(d.ok)
  end
end

-- Lets go all that wait in an order but the newest; tells whether there were any.
local function supersede(key)
  local waiting = {}
  for _, id in ipairs(call('ZRANGE', P .. 'o:' .. key, 0, -1)) do
    local d = load(id)
    if d.s == 'w' and not d.held then
      waiting[#waiting + 1] = {id, d}
    end
  end
  for number = 1, #waiting - 1 do
    local id, d = unpack(waiting[number])
    unplace(id, d)
    clear(d)
    finish(d, 's', now)
    place(id, d, true)
  end
  return #waiting > 1
end

-- Whether another than the first of an order is leased: one that was sent again stands before those that went on
-- without it.
local function runs_behind(order, first, d)
  if not d.c then
    return false
  end
  -- What is leased is as much as workers have in flight; of an order there may be any number, and it is looked at for
  -- each that is sent again.
  if call('ZCARD', order) > call('HLEN', HELD) then
    for _, id in ipairs(call('HKEYS', HELD)) do
      if id ~= first and call('ZSCORE', order, id) then
        return true
      end
    end
    return false
  end
  for _, id in ipairs(call('ZRANGE', order, 0, -1)) do
    if id ~= first and call('HEXISTS', HELD, id) == 1 then
      return true
    end
  end
  return false
end

-- Lets the first of an order go, and nobody else; where it gives way, those it gives way to.
reorder = function(key)
  local order = P .. 'o:' .. key
  while true do
    local two = call('ZRANGE', order, 0, 1)
    local first = two[1] and load(two[1])
    local waits = first and first.s == 'w' and not first.held
    local gives_way = waits and two[2] and first.fl and first.of == 'supersede'
    if not (gives_way and supersede(key)) then
      if waits then
        if two[2] and runs_behind(order, two[1], first) then
          call('ZREM', backlog(first), two[1] .. '+')
          call('ZREM', STALLED, two[1])
        else
          call('ZADD', backlog(first), first.u, two[1] .. '+')
        end
        touch(first.p or '-')
      end
      if two[2] then
        local second = load(two[2])
        if second.s == 'w' and not second.held then
          call('ZREM', backlog(second), two[2] .. '+')
          call('ZREM', STALLED, two[2])
          touch(second.p or '-')
        end
      end
      return
    end
  end
end

-- What an event and its deliveries count in the history.
local function history_bytes(seq, h)
  local ids, bytes = {}, h.size
  for number, digest in ipairs(h.digests) do
    ids[number] = delivery_id(seq, digest)
  end
  for _, packed in ipairs(fields(REC, ids)) do
    bytes = bytes + RECORD_BYTES + cmsgpack.unpack(packed).ab
  end
  return bytes
end

-- Whether a set of events is to hold one now, where it did or did not before.
local function index(key, seq, was, is)
  if is and not was then
    call('ZADD', P .. key, seq, text(seq))
  elseif was and not is then
    call('ZREM', P .. key, text(seq))
  end
end

-- Writes the events that changed, and brings the sums over pending and finished ones up to date.
local function write_events()
  for _, seq in ipairs(event_order) do
    local h = events[seq]
    if h and h.changed then
      local class = 'C'
      if h.queued or h.open > 0 then
        class = 'P'
      elseif h.dead > 0 then
        class = 'D'
      end
      if h.class == 'P' and class ~= 'P' then
        M.pending_bytes = M.pending_bytes - h.size
      elseif class == 'P' and h.class ~= 'P' then
        M.pending_bytes = M.pending_bytes + h.size
      end
      if h.class == 'C' then
        M.history_bytes = M.history_bytes - h.bytes
      end
      if class == 'C' then
        if h.class ~= 'C' then
          h.at = now
          call('ZADD', P .. 'closed', now, text(seq))
        end
        h.bytes = history_bytes(seq, h)
        M.history_bytes = M.history_bytes + h.bytes
      elseif h.class == 'C' then
        call('ZREM', P .. 'closed', text(seq))
      end
      h.class = class
      index('open', seq, h.open_before > 0, h.open > 0)
      index('dead', seq, h.dead_before > 0, h.dead > 0)
      local head = string.format(
        '%s%s%016.0f%07d%010.0f%06d%06d', class, h.queued and 'q' or '-', h.at, h.size, h.bytes, h.open, h.dead)
      call('HSET', EVT, text(seq), head .. cmsgpack.pack({k = h.digests}))
    end
  end
  events, event_order = {}, {}
end

-- What time does to leases.
local function catch_up()
  for _, token in ipairs(call('ZRANGEBYSCORE', RUN_LEASES, '-inf', now)) do
    local run = run_of(token)
    for number = 1, run and run.count or 0 do
      if run.states[number] == IN_RUN then
        leave_run(run, number)
        lose_event(run.first + number - 1)
      end
    end
    call('ZREM', RUN_LEASES, token)
  end
  for _, member in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', now)) do
    if string.sub(member, 1, 1) == 'E' then
      call('ZREM', LEASES, member)
      call('HDEL', HELD, member)
      lose_event(tonumber(string.sub(member, 2)))
    else
      local d = load(member)
      if d then
        unplace(member, d)
        clear(d)
        d.n, d.i = d.n + 1, d.i + 1
        wait(d, now, 'worker')
        place(member, d)
      else
        call('ZREM', LEASES, member)
        call('HDEL', HELD, member)
      end
    end
  end
end

-- Ends a script: all that was kept back is written.
local function done()
  write_runs()
  write_events()
  write_places()
  write_backlogs()
  tell_news()
  write_meta()
end
