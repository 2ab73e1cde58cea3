-- How long the oldest ready or overdue item has been due. Looks at the next items of the next flows
-- of each line, which is all there is unless many flows have a backlog.
-- ARGV: the lines
-- Returns {ms, {flows with something ready in each line}}
local most_flows, most_items = 15, 1
local since = now()

-- An item that was never leased is due since it was made: an id holds that time in base 32.
local digits = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
local function made(id)
  local ms = 0
  for digit in id:match('_(%w+)$'):sub(1, 10):gmatch('.') do
    ms = ms * 32 + (digits:find(digit, 1, true) or 1) - 1
  end
  return ms
end

local overdue = tonumber(call('ZRANGE', cell .. 'due', 0, 0, 'WITHSCORES')[2] or since)
since = math.min(since, overdue)
local flows = {}
for at, line in ipairs(ARGV) do
  local aside = tonumber(call('HGET', cell .. 'n', '#' .. line) or 0)
  flows[at] = call('ZCARD', cell .. 'f:' .. line) + aside
  for _, flow in ipairs(call('ZRANGE', cell .. 'f:' .. line, 0, most_flows)) do
    for _, id in ipairs(call('ZRANGE', cell .. 'q:' .. line .. ':' .. flow, 0, most_items)) do
      since = math.min(since, tonumber(call('HGET', cell .. 'm:' .. id, 'd') or made(id)))
    end
  end
end
return {now() - since, flows}
