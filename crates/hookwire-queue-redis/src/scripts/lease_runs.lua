-- Leases events: those that were leased before, by number, then those that were not.
--
-- ARGV[7]  how long the lease lasts, in microseconds
-- ARGV[8], ARGV[9]  how many at most, and how many suspects among them
-- ARGV[10]  the listener that asks, or nothing
-- ARGV[11], ARGV[12]  after which entry it has read nothing in its stream, and, where it only listens, how often events may
--   be handed over to it from now on before it asks again
-- Reply: the time, the last news, when the next lease of anybody runs out, then singly leased events
-- as {number, token, lost leases, entry, digests on record}, then runs as {first number, token, how many}, then when
-- the store began (0: it is empty), the last number given, 1 if older shards come first (2: and something
-- waits for that), since when the shard takes nothing new (0: it does), the batches in which events of the runs stand, as
-- `batches` has them, and the entries that the listener has not read. What the others say comes with the command after this
-- script, in the same transaction: it reads on in the stream `events` by the group `lease`, which stands where the runs
-- begin, or at its end if there are few others. To one that only listens: the time, when the next lease of anybody runs
-- out, and how often events will be handed over to it.
local LEASE, MAX, SUSPECTS_MAX = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
-- Runs are short enough that Lua can take one apart at once.
local RUN_MAX = 1000
-- So many events in runs are remembered after they were settled, so that a lost reply can be asked for again.
local REMEMBERED_MAX = 16384
-- Of so many runs at most, a call finds out whether they can be forgotten.
local FORGOTTEN_MAX = 256
local LISTENER, TAKES = ARGV[10], tonumber(ARGV[12])
local singles, runs_out, batches_out = {}, {}, {}
local ends = now + LEASE

local function read_sizes(first, count)
  local sizes, from = '', 0
  while from < count do
    local place = (first + from) % 1000
    local to = math.min(count, from + 1000 - place)
    local found = call('GETRANGE', sizes_key(first + from), 7 * place, 7 * (place + to - from) - 1)
    sizes = sizes .. found .. string.rep('0', 7 * (to - from) - #found)
    from = to
  end
  return sizes
end

-- Puts down the batches with events from one number to another, and tells how many of these are in them.
local function find_batches(first, last)
  local names, found = call('ZREVRANGEBYSCORE', BATCHES, text(first), '-inf', 'LIMIT', 0, 1), 0
  for _, name in ipairs(call('ZRANGEBYSCORE', BATCHES, '(' .. text(first), text(last))) do
    names[#names + 1] = name
  end
  for _, name in ipairs(names) do
    local from, count = string.match(name, '^(%d+):(%d+)')
    local overlap = math.min(last + 1, from + count) - math.max(first, tonumber(from))
    if overlap > 0 then
      found = found + overlap
      batches_out[#batches_out + 1] = name
    end
  end
  return found
end

-- Leases events that were never leased, in runs: one lease for many.
local function lease_runs(wanted)
  if wanted <= 0 or M.leased_to >= M.seq then
    return
  end
  local jumps = call('EXISTS', P .. 'ahead') == 1
  local first, seq = M.leased_to + 1, M.leased_to
  local function close_run()
    if first <= seq then
      local count = seq - first + 1
      runs_out[#runs_out + 1] = {first, open_run(first, count, read_sizes(first, count), ends), count}
    end
  end
  while seq < M.seq and (wanted > 0 or jumps) do
    if jumps and call('ZREM', P .. 'ahead', text(seq + 1)) == 1 then
      -- One that came from another store with its deliveries.
      close_run()
      seq = seq + 1
      first = seq + 1
    elseif wanted == 0 then
      break
    else
      if seq - first + 1 == RUN_MAX then
        close_run()
        first = seq + 1
      end
      seq, wanted = seq + 1, wanted - 1
    end
  end
  close_run()
  -- Where most are in batches, few of what would be read on are wanted now; whoever leases asks for them by number.
  local others = seq - M.leased_to - find_batches(M.leased_to + 1, seq)
  local from = text(2 * others > seq - M.leased_to and M.leased_to or 2 ^ 53) .. '-18446744073709551615'
  if redis.pcall('XGROUP', 'SETID', EVENTS, 'lease', from).err then
    call('XGROUP', 'CREATE', EVENTS, 'lease', from, 'MKSTREAM')
  end
  leased_up_to(seq)
end

-- Runs that were settled long ago are forgotten, but for what is in blocks; one that is still at work is asked about again
-- later.
local function forget_runs()
  for _ = 1, FORGOTTEN_MAX do
    if M.remembered <= REMEMBERED_MAX then
      return
    end
    local oldest = call('LPOP', RUN_QUEUE)
    if not oldest then
      M.remembered = 0
      return
    end
    local key, count = string.match(oldest, '^(%S+) (%d+)$')
    if call('ZSCORE', RUN_LEASES, key) then
      call('RPUSH', RUN_QUEUE, oldest)
      return
    end
    if not call('ZSCORE', SPANS, key) then
      -- What this call has changed of it is not written any more.
      runs[key] = false
      call('HDEL', RUNS, key)
    end
    M.runs_to = math.max(M.runs_to, tonumber(key))
    M.remembered = M.remembered - tonumber(count)
  end
end

-- Where somebody listens and nothing is there to lease, events may be handed over as often as it takes, but for what it has
-- not read.
local function listen(next_at)
  local stream, takes = stream_of(LISTENER), 0
  -- All up to that entry, and the entry itself.
  call('XTRIM', stream, 'MINID', string.sub(ARGV[11], 1, -2) .. '2')
  if M.leased_to == M.seq and M.gate == 0 and M.closed == 0 then
    takes = math.max(0, TAKES - call('XLEN', stream))
  end
  if takes > 0 then
    call('HSET', LISTENERS, LISTENER, text(ends) .. ' ' .. text(LEASE) .. ' ' .. text(takes))
  else
    call('HDEL', LISTENERS, LISTENER)
  end
  return {text(now), text(next_at), takes}
end

-- Whoever leases does not listen any more. What was handed over and not read is told, and stays for a while, should the reply
-- be lost.
local function unread()
  if LISTENER == '' then
    return {}
  end
  call('HDEL', LISTENERS, LISTENER)
  return call('XRANGE', stream_of(LISTENER), '(' .. ARGV[11], '+')
end

local function reply(next_at)
  local gate = M.gate == 1 and (M.seq > M.leased_to and 2 or 1) or 0
  return {
    text(now), M.news_events, text(next_at), singles, runs_out, text(before.born), text(M.seq), text(gate),
    text(M.closed), batches_out, unread()
  }
end

-- What came before the number of shards changed goes first.
if M.gate == 1 then
  MAX = 0
end
makes_room()
local first_end = next_end()
if TAKES > 0 then
  -- What was handed over was leased in runs, and while only that happens, nobody else forgets them.
  forget_runs()
  write_runs()
  write_meta()
  return listen(first_end)
end
if not leases_ran_out(first_end) and call('EXISTS', FREE, SUSPECTS) == 0
  and (M.closed > 0 or call('XLEN', P .. 'in') == 0) then
  lease_runs(MAX)
  forget_runs()
  write_runs()
  write_meta()
  return reply(#runs_out > 0 and (first_end < 0 or ends < first_end) and ends or first_end)
end
