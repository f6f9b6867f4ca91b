-- Makes leases last from now on.
--
-- ARGV[7]  how long, in microseconds
-- ARGV[8..]  what is leased (a delivery's id, or `E` and an event's number), token, and so on
-- Reply: 1 or 0 for each lease: whether it is still held.
local ends = now + tonumber(ARGV[7])
makes_room()
catch_up()
local reply, leases, tokens, seen = {}, {}, {}, {}
for at = 8, #ARGV, 2 do
  local member, token = ARGV[at], ARGV[at + 1]
  local held = call('HGET', HELD, member) == token or seen[member] == token
  if not held and string.sub(member, 1, 1) == 'E' then
    local run = run_of(token)
    local place = run and tonumber(string.sub(member, 2)) - run.first + 1
    if run and run.states[place] == IN_RUN then
      leave_run(run, place)
      tokens[#tokens + 1], tokens[#tokens + 2] = member, token
      seen[member] = token
      held = true
    end
  end
  if held then
    leases[#leases + 1], leases[#leases + 2] = ends, member
  end
  reply[#reply + 1] = held and 1 or 0
end
many('HSET', HELD, tokens)
many('ZADD', LEASES, leases)
done()
return reply
