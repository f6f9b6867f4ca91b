-- Leases events: those that were leased before, by number, then those that were not.
--
-- ARGV[7]  how long the lease lasts, in microseconds
-- ARGV[8], ARGV[9]  how many at most, and how many suspects among them
-- Reply: the time, the last news, when the next lease of anybody runs out, then singly leased events
-- as {number, token, lost leases, entry, digests on record}, then runs as {first number, token, how many}, then when
-- the store began (0: it is empty), the last number given, 1 if older shards come first (2: and something
-- waits for that), and since when the shard takes nothing new (0: it does). What the events of runs say comes with the command
-- after this script, in the same transaction: it reads on in the stream `events` by the group `lease`, which stands
-- where the runs begin.
local LEASE, MAX, SUSPECTS_MAX = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
-- What one call takes in of events that came by plain XADD.
local TAKEN_IN_MAX, TAKEN_IN_BYTES_MAX = 128, 1048576
-- Runs are short enough that Lua can take one apart at once.
local RUN_MAX = 1000
-- So many events in runs are remembered after they were settled, so that a lost reply can be asked for again.
local RUN_QUEUE, REMEMBERED_MAX = P .. 'run_queue', 16384

makes_room()
catch_up()
if M.closed == 0 then
  take_in(TAKEN_IN_MAX, TAKEN_IN_BYTES_MAX)
end
-- What came before the number of shards changed goes first.
if M.gate == 1 then
  MAX = 0
end

local singles, runs_out = {}, {}
local ends = now + LEASE

-- Those that were leased before: the released ones, and so many of the suspects.
local chosen = {}
if MAX > 0 then
  for _, seq in ipairs(call('ZRANGE', FREE, 0, MAX - 1)) do
    chosen[#chosen + 1] = {tonumber(seq), FREE}
  end
  if SUSPECTS_MAX > 0 then
    for _, seq in ipairs(call('ZRANGE', SUSPECTS, 0, math.min(MAX, SUSPECTS_MAX) - 1)) do
      chosen[#chosen + 1] = {tonumber(seq), SUSPECTS}
    end
  end
  table.sort(chosen, function(a, b) return a[1] < b[1] end)
end
local token
for place = 1, math.min(MAX, #chosen) do
  local seq, from = unpack(chosen[place])
  local member, published = 'E' .. text(seq), entry(seq)
  call('ZREM', from, text(seq))
  if published then
    token = token or next_token()
    call('ZADD', LEASES, ends, member)
    call('HSET', HELD, member, token)
    local losses = tonumber(call('HGET', LOSSES, text(seq)) or 0)
    local digests = {}
    if call('HEXISTS', EVT, text(seq)) == 1 then
      local h = unfold(seq)
      digests = h.digests
    end
    singles[#singles + 1] = {seq, token, losses, published, digests}
  else
    -- Somebody took it out of the stream: there is nothing left to do for it.
    call('ZREM', UNSETTLED, text(seq))
    call('HDEL', LOSSES, text(seq))
  end
end

-- Events that were never leased, in runs: one lease for many.
local wanted = MAX - #singles
local function open_run(first, count)
  local key = next_token()
  local head = string.format('%015d%05d', first, count)
  call('HSET', RUNS, key, head .. string.rep('0', count) .. read_sizes(first, count))
  call('ZADD', RUN_LEASES, ends, key)
  call('RPUSH', RUN_QUEUE, key .. ' ' .. count)
  M.run_events = M.run_events + count
  M.remembered = M.remembered + count
  runs_out[#runs_out + 1] = {first, key, count}
end
if wanted > 0 and M.leased_to < M.seq then
  local before_first = text(M.leased_to) .. '-18446744073709551615'
  if redis.pcall('XGROUP', 'SETID', EVENTS, 'lease', before_first).err then
    call('XGROUP', 'CREATE', EVENTS, 'lease', before_first, 'MKSTREAM')
  end
  local jumps = call('EXISTS', P .. 'ahead') == 1
  local first, seq = M.leased_to + 1, M.leased_to
  local function close_run()
    if first <= seq then
      open_run(first, seq - first + 1)
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
  for chunk = math.floor((M.leased_to + 1) / 1000), math.floor((seq + 1) / 1000) - 1 do
    call('DEL', sizes_key(1000 * chunk))
  end
  M.leased_to = seq
end

-- Runs that were settled long ago are forgotten; one that is still at work is asked about again later.
while M.remembered > REMEMBERED_MAX do
  local oldest = call('LPOP', RUN_QUEUE)
  if not oldest then
    M.remembered = 0
    break
  end
  local key, count = string.match(oldest, '^(%S+) (%d+)$')
  if call('ZSCORE', RUN_LEASES, key) then
    call('RPUSH', RUN_QUEUE, oldest)
    break
  end
  call('HDEL', RUNS, key)
  M.remembered = M.remembered - tonumber(count)
end

local next_at = next_end()
local gate = M.gate == 1 and (M.seq > M.leased_to and 2 or 1) or 0
done()
return {text(now), M.news_events, text(next_at), singles, runs_out, text(before.born), text(M.seq), text(gate), text(M.closed)}
