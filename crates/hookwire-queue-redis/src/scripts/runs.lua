-- Leasing events that were never leased, in runs: one lease for many.

-- Runs in the order in which they were leased, in which they are forgotten.
local RUN_QUEUE = P .. 'run_queue'

-- Leases so many events from one number on, of these sizes, and gives the token.
local function open_run(first, count, sizes, ends)
  local token = next_token()
  local head = string.format('%015d%05d', first, count)
  call('HSET', RUNS, token, head .. string.rep('0', count) .. sizes)
  call('ZADD', RUN_LEASES, ends, token)
  call('RPUSH', RUN_QUEUE, token .. ' ' .. count)
  M.run_events = M.run_events + count
  M.remembered = M.remembered + count
  return token
end

-- Notes that everything up to this number is leased.
local function leased_up_to(seq)
  for chunk = math.floor((M.leased_to + 1) / 1000), math.floor((seq + 1) / 1000) - 1 do
    call('DEL', sizes_key(1000 * chunk))
  end
  M.leased_to = seq
end

-- Each listener has a stream, in which it finds what was leased to it.
local function stream_of(listener)
  return P .. 'to:' .. listener
end
