-- Begins a shard that takes new events after others were closed: its numbers go on above theirs, and its events wait
-- until those of the others are fanned out. May be repeated.
--
-- ARGV[7]  the greatest number of those others
-- Reply: 1.
local LAST = tonumber(ARGV[7])
if M.floor == 0 then
  M.floor, M.gate = LAST + 1, 1
  if M.seq == 0 then
    M.forgotten_to, M.history_from = LAST, LAST + 1
  end
  if M.leased_to == M.seq then
    M.seq, M.leased_to = math.max(M.seq, LAST), math.max(M.seq, LAST)
  end
end
done()
return 1
