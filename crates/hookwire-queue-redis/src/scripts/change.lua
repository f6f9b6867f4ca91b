-- Does to deliveries what a person asks for.
--
-- ARGV[7]  retry, cancel, redrive or purge
-- ARGV[8]  1 for a dry run
-- ARGV[9..]  ids, each once
-- Reply: for each id `!` if it was, or would be, changed, `?` if it is unknown, or the state it is in.
local APPLIES = {retry = 'wxd', cancel = 'wx', redrive = 'x', purge = 'x'}
local change, is_dry = ARGV[7], ARGV[8] == '1'
makes_room()
catch_up()

local function act(id, d)
  local seq, state = seq_of(id), d.s
  unplace(id, d)
  local h = ev(seq)
  local is_event = state == 'x' and not d.r and (change == 'retry' or change == 'redrive')
  if change == 'purge' or is_event then
    for place_of, digest in ipairs(h.digests) do
      if delivery_id(seq, digest) == id then
        table.remove(h.digests, place_of)
        break
      end
    end
    for _, number in ipairs(d.a) do
      call('HDEL', ATT, id .. ':' .. number)
    end
    call('HDEL', REC, id)
    if is_event then
      h.queued = true
      call('ZADD', UNSETTLED, seq, text(seq))
      call('ZADD', FREE, seq, text(seq))
      news_events = true
    end
    if d.ok then
      news_deliveries = true
      reorder(d.ok)
    end
    return
  end
  clear(d)
  if change == 'cancel' then
    finish(d, 'c', now)
  else
    wait(d, now, 'worker')
    if state ~= 'w' then
      d.g, d.c = d.n, now
      -- Who was passed over in its order goes on by itself; others take their place again.
      d.fl = d.fl and d.of == 'skip' or nil
    end
  end
  place(id, d)
end

local reply = {}
for at = 9, #ARGV do
  local d = load(ARGV[at])
  local state = d and (d.held and 'r' or d.s) or '?'
  if d and string.find(APPLIES[change], state, 1, true) then
    if not is_dry then
      act(ARGV[at], d)
    end
    state = '!'
  end
  reply[#reply + 1] = state
end
done()
return reply
