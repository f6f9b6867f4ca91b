-- Counts.
--
-- Reply: the time; events queued, leased; deliveries waiting, running, dead, delivered, cancelled, superseded; when the
-- oldest pending event was accepted (-1: none); pending bytes; history bytes; ids remembered; for how long, in
-- microseconds.
makes_room()
catch_up()
done()
local free = call('ZCARD', FREE) + call('ZCARD', SUSPECTS)
local fresh = M.seq - M.leased_to - call('ZCARD', P .. 'ahead')
local leased = M.run_events + call('ZCARD', UNSETTLED) - free
-- What came by plain XADD and was not taken in yet waits as well.
local coming, first_coming = 0, nil
if M.closed == 0 then
  coming = call('XLEN', P .. 'in')
  first_coming = call('XRANGE', P .. 'in', '-', '+', 'COUNT', 1)[1]
end

-- The first event that waits or has a delivery that waits. Those that only run are few: as many as workers hold.
local oldest = first_unsettled()
local from = 0
while M.waiting > 0 do
  local seq = tonumber(call('ZRANGE', P .. 'open', from, from)[1])
  if not seq or seq > oldest then
    break
  end
  local h, running = ev(seq), 0
  for _, digest in ipairs(h.digests) do
    running = running + call('HEXISTS', HELD, delivery_id(seq, digest))
  end
  if running < h.open then
    oldest = seq
  end
  from = from + 1
end
local oldest_at = '-1'
if oldest < math.huge then
  local published = entry(oldest)
  oldest_at = published and string.sub(published, 1, 16) or '-1'
elseif first_coming then
  oldest_at = string.match(first_coming[1], '^%d+') .. '000'
end

-- Ids are forgotten step by step; what is out of the window is not recognised before that.
local ids = math.min(M.seq - M.forgotten_to, DEDUP_MAX)
local window = DEDUP_WINDOW
if ids >= DEDUP_MAX then
  -- The batch that holds the oldest of them, between these two.
  local low, high, oldest_id, found_at = 0, call('LLEN', ID_QUEUE) - 1, M.seq - ids + 1, now
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local seq, at = string.match(call('LINDEX', ID_QUEUE, middle), '^(%d+) %d+ (%d+)')
    if tonumber(seq) <= oldest_id then
      low, found_at = middle + 1, tonumber(at)
    else
      high = middle - 1
    end
  end
  window = math.min(window, now - found_at)
end
return {
  text(now), text(free + fresh + coming), text(leased), text(M.waiting), text(M.running), text(M.dead), text(M.delivered),
  text(M.cancelled), text(M.superseded), oldest_at, text(M.pending_bytes), text(M.history_bytes), text(ids),
  text(window)
}
