-- Events that were settled, or of which something is on record, by number, the newest first.
--
-- ARGV[7]  all; open or dead: only those with such deliveries
-- ARGV[8], ARGV[9]  begin with this number, and look at so many
-- Reply: the number to go on with (-1: that was all), {rows}.
local source, from, count = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
makes_room()
catch_up()
done()

local rows, looked, next_from = {}, 0, -1
local function add(seq, published)
  looked, next_from = looked + 1, seq - 1
  if has_value(seq) then
    rows[#rows + 1] = row(seq, published or entry(seq), false)
  end
end
local function indexed(key, low)
  for _, seq in ipairs(call('ZREVRANGEBYSCORE', P .. key, text(from), low, 'LIMIT', 0, count - looked)) do
    add(tonumber(seq))
  end
end
if source ~= 'all' then
  indexed(source, '-inf')
else
  indexed('ahead', '(' .. text(M.leased_to))
  from = math.min(from, M.leased_to)
  while looked < count and from >= M.history_from do
    local of = batch_of(from)
    if of then
      -- One that was removed counts, too, so that a call does not look at more than it may.
      add(from, entry(from, ID_BYTES))
      from = from - 1
    else
      -- The batch that was looked at is the nearest below, if there is any below.
      local low = math.max(M.history_from, batch.first <= from and batch.past or 0)
      local found = call('XREVRANGE', EVENTS, text(from), text(low), 'COUNT', count - looked)
      for _, item in ipairs(found) do
        add(tonumber(string.match(item[1], '^(%d+)')), as_entry(item))
      end
      from = low - 1
    end
  end
  if looked < count then
    from = math.min(from, M.history_from - 1)
    indexed('old', '-inf')
  end
end
if looked < count then
  next_from = -1
end
return {next_from, rows}
