-- Ends the leases that need more than `settle_blocks` does, which comes before and tells the arguments and the reply.
local REPLIES, REPLIES_BEFORE, REPLIES_MAX = P .. 'replies', P .. 'replies_before', 16384

catch_up()
local leases, lost = {}, {}
local BACKLOG_MAX = tonumber(ARGV[7])
local remembered_now, remember_args = {}, {}

-- Notes what was replied, in case it is asked for again.
local function remember(member, token, given)
  local key, value = member .. ':' .. token, table.concat(given, ' ')
  remembered_now[key] = value
  remember_args[#remember_args + 1], remember_args[#remember_args + 2] = key, value
end

-- Whether this was settled before; then the reply is the same again.
local function replied(member, token)
  local key = member .. ':' .. token
  local value = remembered_now[key] or call('HGET', REPLIES, key) or call('HGET', REPLIES_BEFORE, key)
  for given in string.gmatch(value or '', '%S+') do
    leases[#leases + 1] = given
  end
  return value
end

local function give(id, length, given)
  local token = next_token()
  call('ZADD', LEASES, now + length, id)
  call('HSET', HELD, id, token)
  given[#given + 1], given[#given + 2] = id, token
  -- One that has run out already is there for others.
  news_deliveries = news_deliveries or length == 0
end

-- Ends whatever lease there is on a delivery, and puts the delivery where its fate says.
local function end_delivery(id, d, fate, given)
  unplace(id, d)
  d.p = fate.p or d.p
  attempted(id, d, fate.a)
  settle(d, fate, now)
  place(id, d)
  if fate.t == 'r' then
    give(id, fate.l, given)
  end
end

local function fan_out(seq, body, held, is_first, given)
  local h = unfold(seq)
  for _, new in ipairs(body.d) do
    local id = delivery_id(seq, new.k)
    local d = nil
    if not is_first then
      d = (held or new.t == 'd') and load(id)
    end
    if d == nil then
      d = fanned_out(new, body.e, body.o)
      h.digests[#h.digests + 1] = new.k
      attempted(id, d, new.a)
      if new.t == 'w' and new.p and backlog_bytes(new.p) + h.size > BACKLOG_MAX then
        settle(d, {t = 'x', dr = 'backlog_limit'}, now)
        given[#given + 1], given[#given + 2] = id, '-'
      else
        settle(d, new, now)
      end
      place(id, d)
      if new.t == 'r' then
        give(id, new.l, given)
      end
    elseif d and new.t == 'd' and not finished(d) then
      end_delivery(id, d, new, given)
    end
  end
end

local function dead_event(seq, body)
  local h = unfold(seq)
  local id = delivery_id(seq, body.k)
  local d = load(id)
  if d then
    unplace(id, d)
    for _, number in ipairs(d.a) do
      call('HDEL', ATT, id .. ':' .. number)
    end
  else
    h.digests[#h.digests + 1] = body.k
  end
  d = fanned_out({})
  settle(d, {t = 'x', dr = body.dr, le = body.le}, now)
  place(id, d)
end

local function settle_event(kind, number, token, body)
  local seq, member = tonumber(number), 'E' .. number
  local run = run_of(token)
  local place_in_run = run and seq - run.first + 1
  local state = run and run.states[place_in_run]
  if state == SETTLED or state == IN_BLOCK or state == LEFT_BLOCK then
    return
  end
  local held = state == IN_RUN
  if not held then
    if replied(member, token) then
      return
    end
    held = call('HGET', HELD, member) == token
  end
  if not held then
    lost[#lost + 1] = member
    -- A lease older than the event was of another one, whose number was given again after the store lost its data.
    local published = entry(seq)
    if published and tonumber(token) < tonumber(string.sub(published, 1, 16)) then
      return
    end
  end
  -- What a run holds was never settled, so there is nothing on record to look for.
  local is_first = state == IN_RUN
  local is_new = is_first and not events[seq]
  local h = is_new and new_event(seq, tonumber(run_size(run, place_in_run))) or ev(seq)
  if not h or (not held and kind ~= 'F' and kind ~= 'E') then
    return
  end
  local given = {}
  if kind == 'F' or kind == 'E' then
    fan_out(seq, cmsgpack.unpack(body), held, is_first, given)
  elseif kind == 'X' then
    dead_event(seq, cmsgpack.unpack(body))
  end
  if not held then
    return
  end
  if is_first then
    run.states[place_in_run], run.changed = #given > 0 and SETTLED_AND_LEASED or SETTLED, true
    M.run_events = M.run_events - 1
  else
    call('ZREM', LEASES, member)
    call('HDEL', HELD, member)
  end
  if not is_first or #given > 0 then
    remember(member, token, given)
  end
  for _, value in ipairs(given) do
    leases[#leases + 1] = value
  end
  if kind == 'R' then
    local losses = call('HGET', LOSSES, number)
    call('ZADD', losses and SUSPECTS or FREE, seq, number)
    call('ZADD', UNSETTLED, seq, number)
    news_events = true
    return
  end
  if not is_first then
    call('ZREM', UNSETTLED, number)
    call('HDEL', LOSSES, number)
  end
  h.queued, h.changed = false, true
  settled = settled + 1
end

local function settle_delivery(id, token, body)
  if replied(id, token) then
    return
  end
  local held = call('HGET', HELD, id) == token
  local d = load(id)
  if not held and not (d and body.t == 'd' and not finished(d)) then
    lost[#lost + 1] = id
    return
  end
  if d then
    local given = {}
    end_delivery(id, d, body, given)
    remember(id, token, given)
    for _, value in ipairs(given) do
      leases[#leases + 1] = value
    end
  end
end

-- Some events of a block are no longer held, or are too old: one by one.
local function settle_parts(token, name, content)
  local key = P .. 'f:' .. name
  if content ~= '' then
    call('SET', key, content)
  end
  local run, events, deliveries, payloads, records = run_of(token), 0, 0, 0, 0
  for number, where in index_of(name) do
    local seq = tonumber(number)
    local place_in_run = run and seq - run.first + 1
    local count, from = tonumber(string.sub(where, 1, 6)), tonumber(string.sub(where, 7, 14))
    local length = tonumber(string.sub(where, 15, 21))
    if run and run.states[place_in_run] == IN_RUN and seq >= M.history_from then
      payloads = payloads + run_size(run, place_in_run)
      run.states[place_in_run] = IN_BLOCK
      events, deliveries, records = events + 1, deliveries + count, records + length
    else
      settle_event('F', number, token, call('GETRANGE', key, from, from + length - 1))
    end
  end
  if events > 0 then
    note_block(run, name, events, deliveries, payloads, records)
  elseif call('HEXISTS', P .. 'blocks', name) == 0 then
    call('DEL', key)
  end
end

for _, at in ipairs(blocks_left) do
  settle_parts(ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
for at = blocks_end, #ARGV, 4 do
  if ARGV[at] == 'D' then
    settle_delivery(ARGV[at + 1], ARGV[at + 2], cmsgpack.unpack(ARGV[at + 3]))
  else
    settle_event(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
  end
end
many('HSET', REPLIES, remember_args)
if #remember_args > 0 and call('HLEN', REPLIES) > REPLIES_MAX then
  call('RENAME', REPLIES, REPLIES_BEFORE)
end
if settled > 0 and call('EXISTS', STALLED) == 1 then
  -- An order may have waited for one of these events.
  news_deliveries = true
end
write_runs()
write_events()
trim(2 * settled + 8)
forget_ids(settled)
done()
return {leases, lost}
