-- Ends leases.
--
-- ARGV[7]  payload bytes of an endpoint's backlog beyond which new deliveries become dead letters
-- ARGV[8]  how many blocks there are: events of a run, all of whose deliveries were delivered, settled together
-- Then for each block: the run's token, the block's name, what it holds (empty, if a command before this script has
-- stored it), its events as ranges (first number, a colon, how many, a blank), how many deliveries they have, and how many
-- bytes are said of them.
-- Then kind, subject, token, body, and so on; events first. Kinds:
--   F  an event, all of whose deliveries were delivered      E  an event with deliveries of any fate
--   X  an event that is a dead letter      R  an event that is given back      D  a delivery
-- The subject is an event's number or a delivery's id. The body, and what a block says of an event, is MessagePack:
--   F, E  {e = event, o = object type, d = deliveries: {k = digest, r, w, p, ok, of, a = attempts, and a fate}}
--   X  {k = digest, dr, le}      D  {p, a, and a fate}
--   attempt  {n = number, st = status, er = error, j = the whole}
--   fate  {t = d: delivered, x: dead (dr, le), w: waiting (u: in how many microseconds, wr), r: running (l: how long)}
-- Reply: {id, token, and so on} of leases given, with `-` in place of the token of a delivery that there was no room for
-- in its backlog, {subjects that were lost}.
local settled = 0

-- Whether a run holds all events of these ranges, and the history has not gone past them.
local function holds(run, ranges)
  for first, count in string.gmatch(ranges, '(%d+):(%d+)') do
    local place = first - run.first + 1
    if tonumber(first) < M.history_from or place < 1 then
      return false
    end
    for number = place, place + count - 1 do
      if run.states[number] ~= IN_RUN then
        return false
      end
    end
  end
  return true
end

-- Notes so many events of a run as settled in a block, with so many deliveries, and payloads and records of so many bytes.
local function note_block(run, name, events, deliveries, payloads, records)
  run.blocks = run.blocks .. ' ' .. name .. string.format(' %016d', now)
  run.changed, run.values = true, nil
  M.pending_bytes = M.pending_bytes - payloads
  M.history_bytes = M.history_bytes + payloads + RECORD_BYTES * events + records
  M.delivered = M.delivered + deliveries
  M.run_events = M.run_events - events
  settled = settled + events
  call('HINCRBY', P .. 'blocks', name, events)
  call('ZADD', SPANS, run.first, run.token)
end

-- What the settlement says is the record, as it is, and stays where it is: settles a block of events that their run
-- holds. Does nothing if it does not hold all of them.
local function settle_whole(token, name, content, ranges, deliveries, records)
  local run, events, payloads = run_of(token), 0, 0
  if not (run and holds(run, ranges)) then
    return false
  end
  if content ~= '' then
    call('SET', P .. 'f:' .. name, content)
  end
  for first, count in string.gmatch(ranges, '(%d+):(%d+)') do
    local place = first - run.first + 1
    for number = place, place + count - 1 do
      payloads = payloads + run_size(run, number)
      run.states[number] = IN_BLOCK
    end
    events = events + count
  end
  note_block(run, name, events, tonumber(deliveries), payloads, tonumber(records))
  return true
end

makes_room()
local is_usual = not leases_ran_out(next_end())
local blocks_left, blocks_end = {}, 9 + 6 * ARGV[8]
for at = 9, blocks_end - 1, 6 do
  if not (is_usual and settle_whole(unpack(ARGV, at, at + 5))) then
    blocks_left[#blocks_left + 1] = at
  end
end
if is_usual and #blocks_left == 0 and blocks_end > #ARGV and not history_is_full() and not ids_are_old()
  and call('EXISTS', STALLED) == 0 then
  write_runs()
  write_meta()
  return {{}, {}}
end
