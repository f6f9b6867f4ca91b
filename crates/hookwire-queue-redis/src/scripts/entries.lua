-- Events as they were published, what leaves a run, and the places where deliveries wait.

-- An event as it was published: 16 digits of time, a blank (a tilde, if it came by plain XADD), the id, a blank, the
-- payload. Nothing, if there is no such event.
local function as_entry(item)
  return string.format('%016d', string.match(item[1], '%d+$')) .. (item[2][1] == 'p' and '~' or ' ') .. item[2][2]
end

-- Events that were published together stand in a string of their own, a batch: for each eight digits, which tell where it
-- ends, and then one after the other, as id, a blank, and the payload. One that was removed begins with a blank.
-- `batches` has them by their first numbers: that number, how many, when they were accepted, with colons between.
local batch = {first = 0, past = 0}

-- The batch of an event; nothing, if it is in none.
local function batch_of(seq)
  if seq < batch.first or seq >= batch.past then
    local name = call('ZREVRANGEBYSCORE', BATCHES, text(seq), '-inf', 'LIMIT', 0, 1)[1]
    if not name then
      return
    end
    local first, count, at = string.match(name, '^(%d+):(%d+):(%d+)$')
    batch = {key = P .. 'e:' .. first, first = tonumber(first), count = tonumber(count), at = tonumber(at)}
    batch.past = batch.first + batch.count
  end
  return seq < batch.past and batch or nil
end

-- An event of a batch that stands in this key, as it was published, or so many bytes of it; and where it begins.
local function in_batch(key, count, place, max)
  local ends = call('GETRANGE', key, math.max(0, 8 * place - 8), 8 * place + 7)
  local from, to = place > 0 and tonumber(string.sub(ends, 1, 8)) or 0, tonumber(string.sub(ends, -8))
  if not from or not to or to <= from then
    return '', 0
  end
  from = 8 * count + from
  return call('GETRANGE', key, from, math.min(8 * count + to, from + (max or math.huge)) - 1), from
end

-- More than an id has bytes.
local ID_BYTES = 160

-- `max`: no more than so many bytes of the id and the payload are wanted.
local function entry(seq, max)
  if seq < M.history_from then
    return call('HGET', P .. 'kept', text(seq)) or nil
  end
  local of = batch_of(seq)
  if of then
    local value = in_batch(of.key, of.count, seq - of.first, max)
    return string.find(value, '^[^ ]') and string.format('%016d ', of.at) .. value or nil
  end
  local found = call('XRANGE', EVENTS, text(seq), text(seq))[1]
  return found and as_entry(found)
end

local function id_of(value)
  return string.sub(value, 18, string.find(value, ' ', 18, true) - 1)
end

-- The size of the payload, as far as seven digits go.
local function size_of(value)
  return math.min(#value - string.find(value, ' ', 18, true), 9999999)
end

-- Takes an event out of its run: from now on it is kept by itself.
local function leave_run(run, place)
  run.states[place] = LEFT_RUN
  run.changed = true
  M.run_events = M.run_events - 1
  local seq = run.first + place - 1
  call('ZADD', UNSETTLED, seq, text(seq))
end

-- The lease of an event ran out.
local function lose_event(seq)
  call('HINCRBY', LOSSES, text(seq), 1)
  call('ZADD', SUSPECTS, seq, text(seq))
  news_events = true
end

-- The first event that is not settled; none: infinity.
local function first_unsettled()
  local first = math.huge
  local known = call('ZRANGE', UNSETTLED, 0, 0)[1]
  if known then
    first = tonumber(known)
  end
  if M.leased_to < M.seq then
    first = math.min(first, M.leased_to + 1)
  end
  if M.run_events > 0 then
    for _, token in ipairs(call('ZRANGE', RUN_LEASES, 0, -1)) do
      local run = run_of(token)
      for place = 1, run and run.count or 0 do
        if run.states[place] == IN_RUN then
          first = math.min(first, run.first + place - 1)
          break
        end
      end
    end
  end
  return first
end

-- A place is an endpoint, or `-` for deliveries that have none yet. Its backlog is a sorted set by due time; it stands
-- in `places` by the time at which its first delivery may go, or in `ready` once that has come.
local touched = {}

local function touch(place)
  touched[place] = true
end

local function write_places()
  for place in pairs(touched) do
    local due = tonumber(call('ZRANGE', P .. 'b:' .. place, 0, 0, 'WITHSCORES')[2])
    if due then
      local hold = tonumber(call('HGET', P .. 'holds', place) or nil)
      if hold and hold <= now then
        call('HDEL', P .. 'holds', place)
      elseif hold and hold > due then
        due = hold
      end
      if due <= now then
        call('ZADD', READY, 0, place)
        call('ZREM', PLACES, place)
      else
        call('ZADD', PLACES, due, place)
        call('ZREM', READY, place)
      end
    else
      call('ZREM', PLACES, place)
      call('ZREM', READY, place)
    end
  end
  touched = {}
end
