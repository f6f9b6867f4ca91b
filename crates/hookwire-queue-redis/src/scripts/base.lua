-- What every script begins with: names, the clock, the counters, and runs. `src/keys.rs` tells what each key holds.
--
-- Lua makes every function anew for each call, so a script is put together of parts in the order in which they are
-- needed: one that can do its work with the first of them returns before the others.
--
-- KEYS[1]  the key `meta` of the shard; all other keys of the shard share its hash tag
-- ARGV[1]  the time in microseconds, or empty for the server's clock
-- ARGV[2]  how long an event id is remembered, in microseconds
-- ARGV[3]  how many event ids are remembered
-- ARGV[4]  payload bytes beyond which publishing is refused
-- ARGV[5]  how long finished deliveries are kept, in microseconds
-- ARGV[6]  how many bytes of them are kept
--
-- Numbers are doubles here: exact up to 2^53, which holds microseconds until the year 2255. Digests have 64 bits and
-- are always text. A number becomes text by `text`, never by `..`, which keeps 14 digits only.
--
-- Redis' Lua hashes every byte of every string that comes into being, more than a microsecond for a kilobyte. So
-- payloads and records do not pass through here on the path of every event, or once at most.
local VERSION = 4
-- What a record counts in the history beyond its bytes.
local RECORD_BYTES = 256
local call = redis.call
local P = string.sub(KEYS[1], 1, -5)
local META, EVENTS, EVT, REC, HELD = KEYS[1], P .. 'events', P .. 'evt', P .. 'rec', P .. 'held'
local LEASES, RUNS, RUN_LEASES, SPANS = P .. 'leases', P .. 'runs', P .. 'run_leases', P .. 'spans'
local IDS, ID_QUEUE, BATCHES = P .. 'ids', P .. 'id_queue', P .. 'batches'
local UNSETTLED, FREE, SUSPECTS, LOSSES = P .. 'unsettled', P .. 'free', P .. 'suspects', P .. 'losses'
-- Those who wait for events: until when they are expected to, how long a lease of theirs lasts in microseconds, and how
-- often they are handed some, with blanks between.
local LISTENERS = P .. 'listeners'
local PLACES, READY, STALLED = P .. 'places', P .. 'ready', P .. 'stalled'
local DEDUP_WINDOW, DEDUP_MAX = tonumber(ARGV[2]), tonumber(ARGV[3])
local PENDING_MAX, AGE_MAX, BYTES_MAX = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local function text(number)
  return string.format('%d', number)
end

-- A call with as many arguments as there are, in portions that fit Lua's stack.
local function many(command, key, args)
  for from = 1, #args, 1000 do
    call(command, key, unpack(args, from, math.min(from + 999, #args)))
  end
end

-- HMGET of as many fields as there are.
local function fields(key, names)
  if #names > 0 and #names <= 1000 then
    return call('HMGET', key, unpack(names))
  end
  local all = {}
  for from = 1, #names, 1000 do
    local to = math.min(from + 999, #names)
    for place, value in ipairs(call('HMGET', key, unpack(names, from, to))) do
      all[from + place - 1] = value
    end
  end
  return all
end

-- The counters, read at once, and written at once where they changed.
local NUMBERS = {
  'v', 'seq', 'leased_to', 'history_from', 'forgotten_to', 'token', 'pending_bytes', 'history_bytes', 'waiting',
  'running', 'dead', 'delivered', 'cancelled', 'superseded', 'quiet_from', 'run_events', 'remembered', 'oldest_id_at',
  'time', 'ahead', 'born', 'closed', 'gate', 'floor', 'runs_to'
}
local M, before = {}, {}
do
  local values = call('HMGET', META, 'served', 'news_events', 'news_deliveries', unpack(NUMBERS))
  for place, name in ipairs(NUMBERS) do
    M[name] = tonumber(values[place + 3]) or 0
    before[name] = M[name]
  end
  M.served, M.news_events, M.news_deliveries = values[1], values[2] or '0-0', values[3] or '0-0'
  before.served, before.news_events, before.news_deliveries = values[1], M.news_events, M.news_deliveries
end
if M.v > VERSION then
  return redis.error_reply('HWVERSION ' .. text(M.v))
end
if M.history_from == 0 then
  M.history_from = 1
end

-- The store's clock. Where somebody sets the server's clock back, this one does not jump: it goes on from where it
-- was, a tenth slower, until the two agree again.
local now
if ARGV[1] ~= '' then
  now = tonumber(ARGV[1])
else
  local time = call('TIME')
  local server = time[1] * 1000000 + time[2]
  if server < M.time then
    M.ahead = M.ahead + (M.time - server)
  else
    M.ahead = math.max(0, M.ahead - math.floor((server - M.time) / 10))
  end
  M.time = server
  now = server + M.ahead
end

local function write_meta()
  local changed = {}
  for _, name in ipairs(NUMBERS) do
    if M[name] ~= before[name] then
      changed[#changed + 1] = name
      changed[#changed + 1] = text(M[name])
    end
  end
  for _, name in ipairs({'served', 'news_events', 'news_deliveries'}) do
    if M[name] ~= before[name] then
      changed[#changed + 1] = name
      changed[#changed + 1] = M[name]
    end
  end
  -- That time went on, and that history begins at 1, are no news by themselves. That it was set back is: until it is
  -- known, this clock stands still.
  local idle = before.history_from == 0 and 2 or 0
  if M.ahead <= before.ahead then
    idle = idle + (M.time ~= before.time and 2 or 0) + (M.ahead ~= before.ahead and 2 or 0)
  end
  if #changed > idle then
    if M.v < VERSION then
      changed[#changed + 1] = 'v'
      changed[#changed + 1] = VERSION
    end
    if M.v == 0 then
      -- By this a worker sees that the store is another one than it was.
      changed[#changed + 1] = 'born'
      changed[#changed + 1] = text(now)
    end
    call('HSET', META, unpack(changed))
  end
end

-- A server that is out of memory refuses a script's first write if that may need more. What makes room must go on, so
-- such scripts begin with a write that needs none, and does nothing.
local function makes_room()
  call('HDEL', HELD, '-')
end

-- Tokens keep up with the time, so that those that a store gave out and then lost with its data are not given out again.
local function next_token()
  M.token = math.max(M.token + 1, now)
  return text(M.token)
end

-- What became available, and is told to those who wait.
local news_events, news_deliveries = false, false

local function tell_news()
  if news_events then
    M.news_events = call('XADD', P .. 'news_events', 'MAXLEN', 1, '*', 'n', 1)
  end
  if news_deliveries then
    M.news_deliveries = call('XADD', P .. 'news_deliveries', 'MAXLEN', 1, '*', 'n', 1)
  end
end

-- Seven digits of the payload's size for each event that was never leased, a thousand events to a key.
local function sizes_key(seq)
  return P .. 'sizes:' .. text(math.floor(seq / 1000))
end

local function write_sizes(first, sizes)
  local from, count = 0, #sizes / 7
  while from < count do
    local place = (first + from) % 1000
    local to = math.min(count, from + 1000 - place)
    call('SETRANGE', sizes_key(first + from), 7 * place, string.sub(sizes, 7 * from + 1, 7 * to))
    from = to
  end
end

-- Runs: events that were leased together for the first time. 15 digits of the first number, 5 of how many; then one
-- digit for each: 0 held, 1 settled by itself, 2 no longer the run's, 3 settled with leases in the reply, 4 settled in a
-- block, 5 settled in a block that is no longer needed for it; then the sizes; then for each block a blank, its name, a
-- blank, and 16 digits of when it was settled. `spans` has the runs with events in blocks by their first numbers; up to
-- the token `runs_to`, nobody asks about leases any more, and runs are there only for what is in blocks.
local IN_RUN, SETTLED, LEFT_RUN, SETTLED_AND_LEASED, IN_BLOCK, LEFT_BLOCK = string.byte('012345', 1, 6)
local runs = {}

local function run_of(token)
  local run = runs[token]
  if run == nil then
    local value = call('HGET', RUNS, token)
    run = false
    if value then
      local count = tonumber(string.sub(value, 16, 20))
      run = {token = token, first = tonumber(string.sub(value, 1, 15)), count = count, value = value, sizes = 21 + count}
      run.states = {string.byte(value, 21, 20 + count)}
      run.blocks = string.sub(value, 21 + 8 * count)
    end
    runs[token] = run
  end
  return run
end

local function run_size(run, place)
  local from = run.sizes + 7 * (place - 1)
  return string.sub(run.value, from, from + 6)
end

local function write_runs()
  for token, run in pairs(runs) do
    if run and run.changed then
      local states = string.char(unpack(run.states))
      if not string.find(states, '0', 1, true) then
        call('ZREM', RUN_LEASES, token)
      end
      local is_over = run.blocks ~= '' and not string.find(states, '[04]')
      if is_over then
        call('ZREM', SPANS, token)
      end
      if is_over and tonumber(token) <= M.runs_to then
        call('HDEL', RUNS, token)
      else
        local sizes = string.sub(run.value, run.sizes, run.sizes + 7 * run.count - 1)
        call('HSET', RUNS, token, string.sub(run.value, 1, 20) .. states .. sizes .. run.blocks)
      end
      run.changed = false
    end
  end
end

-- When the next lease runs out; none: -1.
local function next_end()
  local ends = -1
  for _, key in ipairs({LEASES, RUN_LEASES}) do
    local first = tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
    if first and (ends < 0 or first < ends) then
      ends = first
    end
  end
  return ends
end

-- Whether there is anything for time to do: leases that ran out, ids to forget, history to let go of.
local function leases_ran_out(first_end)
  return first_end >= 0 and first_end <= now
end

local function ids_are_old()
  return now - M.oldest_id_at >= DEDUP_WINDOW or M.seq - M.forgotten_to > DEDUP_MAX
end

local function history_is_full()
  return M.history_bytes > BYTES_MAX or now >= M.quiet_from + AGE_MAX
end
