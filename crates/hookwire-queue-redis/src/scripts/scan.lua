-- Everything that is pending, by number, the oldest first; what came by plain XADD is taken in before.
--
-- ARGV[7], ARGV[8]  after this number, and how many at most
-- Reply: the time, 1 if there is more, {rows}.
local after, limit = tonumber(ARGV[7]), tonumber(ARGV[8])
makes_room()
catch_up()
local has_more_in = false
if M.closed == 0 then
  take_in(1)
  has_more_in = call('XLEN', P .. 'in') > 0
end
done()

local numbers, seen = {}, {}
local function add(seq)
  if seq > after and not seen[seq] then
    seen[seq] = true
    numbers[#numbers + 1] = seq
  end
end
for _, key in ipairs({UNSETTLED, P .. 'open', P .. 'dead'}) do
  for _, seq in ipairs(call('ZRANGEBYSCORE', key, '(' .. text(after), '+inf', 'LIMIT', 0, limit + 1)) do
    add(tonumber(seq))
  end
end
for _, token in ipairs(call('ZRANGE', RUN_LEASES, 0, -1)) do
  local run = run_of(token)
  for place_in_run = 1, run and run.count or 0 do
    if run.states[place_in_run] == IN_RUN then
      add(run.first + place_in_run - 1)
    end
  end
end
local from, found = math.max(after, M.leased_to), 0
while found <= limit and from < M.seq do
  from = from + 1
  if not call('ZSCORE', P .. 'ahead', text(from)) then
    found = found + 1
    add(from)
  end
end
table.sort(numbers)
local rows = {}
for place_of = 1, math.min(limit, #numbers) do
  rows[place_of] = row(numbers[place_of], entry(numbers[place_of]), true)
end
return {text(now), (has_more_in or #numbers > limit) and 1 or 0, rows}
