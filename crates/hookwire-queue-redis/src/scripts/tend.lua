-- Does what time does: leases run out, ids are forgotten, history goes.
--
-- ARGV[7]  how many steps at most
-- Reply: 1 if there is more to do.
local steps = tonumber(ARGV[7])
makes_room()
catch_up()
write_runs()
write_events()
local more = trim(steps)
more = forget_ids(steps) or more
done()
return more and 1 or 0
