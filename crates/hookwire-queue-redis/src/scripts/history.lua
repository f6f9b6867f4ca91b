-- Taking events in, forgetting their ids, and letting go of what is finished and old.
--
-- Ids are remembered in `ids`: id -> number, time in microseconds, numbers of earlier events with that id, with blanks
-- between. A field goes when the id is out of the de-duplication window and none of its events is kept. `id_queue`
-- holds them in the order of acceptance, until they are out of the window, batch by batch: the first number, how many,
-- the time, the ids, with blanks between.
--
-- Batches and the stream `events` hold every event from `history_from` on. What is older and still wanted was moved to
-- `kept`.
-- An id that comes again and again keeps so many earlier numbers.
local EARLIER_MAX = 100

local function within_window(seq, at)
  return now - at < DEDUP_WINDOW and M.seq - seq < DEDUP_MAX
end

-- The number and time of the newest event with an id, and the numbers before, as `ids` has them.
local function remembered(value)
  local seq, at, earlier = string.match(value, '^(%d+) (%d+)(.*)$')
  return tonumber(seq), tonumber(at), earlier
end

-- Whether an event is there, whatever is left to do for it.
local function is_kept(seq)
  if seq < M.history_from then
    return call('ZSCORE', P .. 'old', text(seq))
  end
  return has_value(seq) or entry(seq, ID_BYTES)
end

-- Forgets ids that are out of the window, batch by batch; those whose event is kept stay findable until it goes. Tells
-- whether there may be more to do.
local function forget_ids(steps)
  if not ids_are_old() then
    return false
  end
  while steps > 0 do
    local batch = call('LINDEX', ID_QUEUE, 0)
    if not batch then
      M.oldest_id_at = now
      return false
    end
    local seq, count, at, rest = string.match(batch, '^(%d+) (%d+) (%d+) (.*)$')
    seq, count, at = tonumber(seq), tonumber(count), tonumber(at)
    local last = seq + count - 1
    if within_window(last, at) then
      M.oldest_id_at = at
      return false
    end
    local nothing_kept = last < M.history_from and call('ZCARD', P .. 'old') == 0
    local names, numbers = {}, {}
    for id in string.gmatch(rest, '%S+') do
      if nothing_kept or not is_kept(seq) then
        names[#names + 1] = id
        numbers[#numbers + 1] = seq
      end
      seq = seq + 1
    end
    for number, known in ipairs(fields(IDS, names)) do
      -- Another event may have the id now.
      if not known or remembered(known) ~= numbers[number] then
        names[number] = '-.-'
      end
    end
    many('HDEL', IDS, names)
    call('LPOP', ID_QUEUE)
    M.forgotten_to = last
    steps = steps - count
  end
  return true
end

-- An event is gone; so is its id, unless it is still to be recognised or another event has it now.
local function drop_id(seq, value)
  if seq <= M.forgotten_to then
    local id = id_of(value)
    local known = call('HGET', IDS, id)
    if known and remembered(known) == seq then
      call('HDEL', IDS, id)
    end
  end
end

-- Takes one event in: `value` is its id, a blank and the payload, `known` what `ids` has of the id, `at` when it was
-- accepted, `field` tells whether it came by plain XADD. Gives what `ids` has now.
local function accept(id, value, size, known, at, field)
  M.seq = M.seq + 1
  local number = text(M.seq)
  call('XADD', EVENTS, number .. '-' .. text(at), field, value)
  local stamp = ' ' .. text(now)
  call('RPUSH', ID_QUEUE, number .. ' 1' .. stamp .. ' ' .. id)
  local named = number .. stamp
  if known then
    local last, _, earlier = remembered(known)
    if is_kept(last) then
      local _, count = string.gsub(earlier, ' ', '')
      named = named .. ' ' .. text(last) .. (count < EARLIER_MAX and earlier or '')
    end
  end
  call('HSET', IDS, id, named)
  size = math.min(size, 9999999)
  write_sizes(M.seq, string.format('%07d', size))
  M.pending_bytes = M.pending_bytes + size
  return named
end

-- Events that came by plain XADD into `in` become events like the others, in their order. One that names no id has
-- that of its entry.
local function take_some_in(max)
  local taken, bytes = {}, 0
  for _, found in ipairs(call('XRANGE', P .. 'in', '-', '+', 'COUNT', max)) do
    local payload
    for number = 1, #found[2], 2 do
      if found[2][number] == 'event' then
        payload = found[2][number + 1]
      end
    end
    payload = payload or cjson.encode(found[2])
    local id = found[1]
    local read, event = pcall(cjson.decode, payload)
    if read and type(event) == 'table' and type(event.id) == 'string' and #event.id <= 128
      and string.find(event.id, '^[!-~]+$') and not string.find(event.id, '.', 1, true) then
      id = event.id
    end
    -- The entry tells when it was accepted, unless its producer made the entry's id up.
    local at = tonumber(string.match(found[1], '^(%d+)')) * 1000
    if at > now or now - at > 30 * 86400 * 1000000 then
      at = now
    end
    accept(id, id .. ' ' .. payload, #payload, call('HGET', IDS, id), at, 'p')
    taken[#taken + 1] = found[1]
    bytes = bytes + #payload
  end
  many('XDEL', P .. 'in', taken)
  return #taken, bytes
end

-- The same up to 128 events or a megabyte so many times over, in portions, so that large ones do not hold the server up:
-- what is left waits for the next call.
local function take_in(times)
  local portion, max, bytes_max = 16, 128 * times, 1048576 * times
  while max > 0 and bytes_max > 0 do
    local taken, bytes = take_some_in(math.min(portion, max))
    max, bytes_max = max - taken, bytes_max - bytes
    if taken < portion then
      return
    end
  end
end

-- Whether something that was finished then has to go.
local function is_over(at)
  return M.history_bytes > BYTES_MAX or now - at >= AGE_MAX
end

-- Removes an event that was finished after its first settlement.
local function remove_closed(member)
  local seq = tonumber(member)
  local value, published = call('HGET', EVT, member), entry(seq)
  M.history_bytes = M.history_bytes - tonumber(string.sub(value, 26, 35))
  for _, digest in ipairs(cmsgpack.unpack(string.sub(value, 48)).k) do
    local id = delivery_id(seq, digest)
    local d = cmsgpack.unpack(call('HGET', REC, id))
    M[COUNTER[d.s]] = M[COUNTER[d.s]] - 1
    for _, number in ipairs(d.a) do
      call('HDEL', ATT, id .. ':' .. number)
    end
    call('HDEL', REC, id)
  end
  call('HDEL', EVT, member)
  call('ZREM', P .. 'closed', member)
  if seq >= M.history_from then
    local of = batch_of(seq)
    if of then
      local _, begin = in_batch(of.key, of.count, seq - of.first, 0)
      call('SETRANGE', of.key, begin, ' ')
    else
      call('XDEL', EVENTS, member .. '-' .. text(tonumber(string.sub(published, 1, 16))))
    end
  else
    call('HDEL', P .. 'kept', member)
    call('ZREM', P .. 'old', member)
  end
  drop_id(seq, published)
end

-- Goes on from `history_from`, past so many events at most: those finished at their first settlement go, if they were
-- finished before `closed_at`, and those that are still wanted are moved out of the stream. Tells how many it passed,
-- and what ended it.
local function pass(max, closed_at)
  local from = M.history_from
  local to = math.min(from + max - 1, M.leased_to)
  if to < from then
    return 0
  end
  local numbers = {}
  for seq = from, to do
    numbers[#numbers + 1] = text(seq)
  end
  local gone, kept_at, blocks = {}, nil, {}
  local passed = 0
  for number, value in ipairs(fields(EVT, numbers)) do
    local seq = from + number - 1
    value = value or value_in_block(seq)
    if value and string.sub(value, 1, 1) == 'F' then
      local at = tonumber(string.sub(value, 3, 18))
      if at > closed_at or not is_over(at) then
        kept_at = at
        break
      end
      local block, _, length = record_of(value)
      blocks[block] = (blocks[block] or 0) + 1
      M.history_bytes = M.history_bytes - tonumber(string.sub(value, 19, 25)) - RECORD_BYTES - length
      M.delivered = M.delivered - tonumber(string.sub(value, 42, 47))
      local run = run_with(seq)
      if run then
        leave_block(run, seq, LEFT_BLOCK)
      else
        gone[#gone + 1] = numbers[number]
      end
      if seq <= M.forgotten_to then
        drop_id(seq, entry(seq, ID_BYTES))
      end
    else
      local published = entry(seq)
      if published then
        local at = tonumber(string.sub(published, 1, 16))
        if not is_over(at) then
          kept_at = at
          break
        end
        call('HSET', P .. 'kept', numbers[number], published)
        call('ZADD', P .. 'old', seq, numbers[number])
      end
    end
    passed = number
  end
  if passed > 0 then
    M.history_from = from + passed
    many('HDEL', EVT, gone)
    for block, count in pairs(blocks) do
      release_block(block, count)
    end
    call('XTRIM', EVENTS, 'MINID', text(M.history_from))
    for _, name in ipairs(call('ZRANGEBYSCORE', BATCHES, '-inf', '(' .. text(M.history_from))) do
      local first, count = string.match(name, '^(%d+):(%d+)')
      if first + count <= M.history_from then
        call('ZREM', BATCHES, name)
        call('UNLINK', P .. 'e:' .. first)
      end
    end
  end
  return passed, kept_at
end

-- Lets go of finished events that are too old or too much, in up to so many steps; tells whether there is more to do.
local function trim(steps)
  if not history_is_full() then
    return false
  end
  while steps > 0 do
    local closed = call('ZRANGE', P .. 'closed', 0, 0, 'WITHSCORES')
    local closed_at = tonumber(closed[2]) or math.huge
    local passed, kept_at = pass(math.min(steps, 250), closed_at)
    if passed == 0 then
      if closed[1] and is_over(closed_at) then
        remove_closed(closed[1])
        passed = 1
      else
        -- Nothing that is kept was finished before that. The age is added on looking: it may be another one by then.
        M.quiet_from = math.min(closed_at, kept_at or now)
        return false
      end
    end
    steps = steps - passed
  end
  return true
end
