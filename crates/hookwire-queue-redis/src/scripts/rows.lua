-- Events with their deliveries, as lists and scans show them.

-- Whether an event is settled ('-'), to be leased ('q') or leased ('l').
local function standing(seq)
  local value = value_of(seq)
  if value and string.sub(value, 2, 2) == '-' then
    return '-', value
  end
  if call('HEXISTS', HELD, 'E' .. text(seq)) == 1 then
    return 'l', value
  end
  for _, token in ipairs(call('ZRANGE', RUN_LEASES, 0, -1)) do
    local run = run_of(token)
    if run and run.states[seq - run.first + 1] == IN_RUN then
      return 'l', value
    end
  end
  return 'q', value
end

-- {number, standing, lost leases, what `evt` has, entry, {id, record, 1 if it is held, {attempts}, and so on}}. Without
-- `whole` the payload is left out of the entry, and there are no attempts.
local function row(seq, published, whole)
  local state, value = standing(seq)
  if value and string.sub(value, 1, 1) == 'F' then
    value = string.sub(value, 1, 47) .. read_record(value)
  end
  local deliveries = {}
  if value and string.sub(value, 1, 1) ~= 'F' then
    for _, digest in ipairs(cmsgpack.unpack(string.sub(value, 48)).k) do
      local id = delivery_id(seq, digest)
      local packed, attempts = call('HGET', REC, id), {}
      if whole then
        for number, attempt in ipairs(cmsgpack.unpack(packed).a) do
          attempts[number] = call('HGET', ATT, id .. ':' .. attempt)
        end
      end
      deliveries[#deliveries + 1] = id
      deliveries[#deliveries + 1] = packed
      deliveries[#deliveries + 1] = call('HEXISTS', HELD, id)
      deliveries[#deliveries + 1] = attempts
    end
  end
  if not whole then
    published = string.sub(published, 1, string.find(published, ' ', 18, true))
  end
  local losses = state ~= '-' and call('HGET', LOSSES, text(seq))
  return {seq, state, tonumber(losses or 0), value or '', published, deliveries}
end
