-- Does what time does: leases run out, ids are forgotten, history goes, and those who listened and are gone.
--
-- ARGV[7]  how many steps at most
-- Reply: 1 if there is more to do.
local steps = tonumber(ARGV[7])
makes_room()
local listeners = call('HGETALL', LISTENERS)
for place = 1, #listeners, 2 do
  if now >= tonumber(string.match(listeners[place + 1], '^%d+')) then
    call('HDEL', LISTENERS, listeners[place])
  end
end
catch_up()
write_runs()
write_events()
local more = trim(steps)
more = forget_ids(steps) or more
done()
return more and 1 or 0
