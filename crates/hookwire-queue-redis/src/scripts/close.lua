-- Ends that a shard takes new events: others do from now on. What plain commands have put in is taken in; then the stream
-- becomes a string, so that another plain command is refused rather than left lying. May be repeated.
--
-- Reply: the last number, 1 if an event is queued or leased, 1 if there is more to take in: to be called again.
local IN = P .. 'in'
makes_room()
catch_up()
if M.closed == 0 then
  M.closed = now
  -- Wakes workers, who learn by the next lease that there are other shards.
  news_events = true
end
local more = 0
if call('TYPE', IN).ok ~= 'string' then
  take_in(8)
  if call('XLEN', IN) > 0 then
    more = 1
  else
    call('DEL', IN)
    call('SET', IN, 'closed: see {hw:shards}')
  end
end
write_runs()
local pending = first_unsettled() < math.huge and 1 or 0
done()
return {text(M.seq), pending, more}
