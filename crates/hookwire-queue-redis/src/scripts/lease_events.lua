-- Leases events: those that were leased before, by number, then those that were not.
--
-- ARGV[7]  how long the lease lasts, in microseconds
-- ARGV[8], ARGV[9]  how many at most, and how many suspects among them
-- Reply: the time, the last news, when the next lease of anybody runs out, then singly leased events
-- as {number, token, lost leases, entry, digests on record}, then runs as {first number, token, entries}.
local LEASE, MAX, SUSPECTS_MAX = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
-- What one call takes in of events that came by plain XADD.
local TAKEN_IN_MAX = 128
-- Runs are short enough that Lua can take one apart at once.
local RUN_MAX = 1000
-- So many events in runs are remembered after they were settled, so that a lost reply can be asked for again.
local RUN_QUEUE, REMEMBERED_MAX = P .. 'run_queue', 16384

makes_room()
catch_up()
take_in(TAKEN_IN_MAX)

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
  local member = 'E' .. text(seq)
  token = token or next_token()
  call('ZREM', from, text(seq))
  call('ZADD', LEASES, ends, member)
  call('HSET', HELD, member, token)
  local losses = tonumber(call('HGET', LOSSES, text(seq)) or 0)
  local digests = {}
  if call('HEXISTS', EVT, text(seq)) == 1 then
    local h = unfold(seq)
    digests = h.digests
  end
  singles[#singles + 1] = {seq, token, losses, entry(seq), digests}
end

-- Events that were never leased, in runs: one lease for many.
local wanted = MAX - #singles
local run
local function close_run()
  if run then
    local sizes = {}
    for place, value in ipairs(run.values) do
      sizes[place] = string.format('%07d', size_of(value))
    end
    local count = #run.values
    local key = next_token()
    local value = string.format('%015.0f%05d', run.first, count) .. string.rep('0', count) .. table.concat(sizes)
    call('HSET', RUNS, key, value)
    call('ZADD', RUN_LEASES, ends, key)
    call('RPUSH', RUN_QUEUE, key .. ' ' .. count)
    M.run_events = M.run_events + count
    M.remembered = M.remembered + count
    runs_out[#runs_out + 1] = {run.first, key, run.values}
    run = nil
  end
end
local jumps = call('EXISTS', P .. 'ahead') == 1
while wanted > 0 and M.leased_to < M.seq do
  local found = call('XRANGE', EVENTS, text(M.leased_to + 1), '+', 'COUNT', wanted)
  if #found == 0 then
    M.leased_to = M.seq
  end
  for _, item in ipairs(found) do
    local seq = tonumber(string.match(item[1], '^(%d+)'))
    M.leased_to = seq
    if jumps and call('ZREM', P .. 'ahead', text(seq)) == 1 then
      close_run()
    else
      if run and (run.first + #run.values ~= seq or #run.values == RUN_MAX) then
        close_run()
      end
      run = run or {first = seq, values = {}}
      run.values[#run.values + 1] = item[2][2]
      wanted = wanted - 1
    end
  end
end
close_run()
while jumps and call('ZREM', P .. 'ahead', text(M.leased_to + 1)) == 1 do
  M.leased_to = M.leased_to + 1
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
done()
return {text(now), M.news_events, text(next_at), singles, runs_out}
