-- What every script begins with: the time, and how a line is joined and counted.
-- KEYS[1] the cell: what every key begins with
assert(#KEYS == 1, 'one key: the cell')
local cell, call = KEYS[1], redis.call

local clock
local function now()
  if not clock then
    local time = call('TIME')
    clock = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return clock
end

-- A flow with something ready takes part in its line: from where the line stands, or from where
-- the flow itself stopped when that is further on. One that runs all it may waits aside. Tells
-- whoever waits when nobody took part before. Whether it did not take part before.
local function join(line, flow)
  local flows, stopped = cell .. 'f:' .. line, cell .. 'p:' .. line
  if call('ZSCORE', flows, flow) then return false end
  if call('HEXISTS', cell .. 'w:' .. flow, '@' .. line) == 1 then return false end
  local stands = call('ZRANGE', flows, 0, 0, 'WITHSCORES')[2]
  if not stands then
    stands = call('ZSCORE', stopped, '') or 0
    call('PUBLISH', cell .. 'hints', line)
  end
  local own = call('ZSCORE', stopped, flow) or 0
  call('ZADD', flows, math.max(tonumber(stands), tonumber(own)), flow)
  return true
end

-- Makes a flow's nearest deadline known to its line, as long as the flow takes part.
local function press(line, flow)
  local nearest = call('ZRANGE', cell .. 'd:' .. line .. ':' .. flow, 0, 0, 'WITHSCORES')[2]
  if nearest and call('ZSCORE', cell .. 'f:' .. line, flow) then
    call('ZADD', cell .. 'u:' .. line, nearest, flow)
  else
    call('ZREM', cell .. 'u:' .. line, flow)
  end
end

-- Forgets that a flow waits aside of a line. Whether it did.
local function unmark(line, flow)
  if call('HDEL', cell .. 'w:' .. flow, '@' .. line) == 0 then return false end
  call('HINCRBY', cell .. 'n', '#' .. line, -1)
  return true
end

-- Lets a flow that waits aside take part again, in all its lines.
local function unpark(flow)
  for _, field in ipairs(call('HKEYS', cell .. 'w:' .. flow)) do
    local line = field:match('^@(.*)$')
    if line and unmark(line, flow) and call('EXISTS', cell .. 'q:' .. line .. ':' .. flow) == 1 then
      join(line, flow)
      press(line, flow)
    end
  end
end
