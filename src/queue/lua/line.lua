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

-- Lets a flow take part that does not: from where the line stands, or from where the flow itself
-- stopped when that is further on. Tells whoever waits when nobody took part before.
local function enroll(line, flow)
  local flows, stopped = cell .. 'f:' .. line, cell .. 'p:' .. line
  local stands = call('ZRANGE', flows, 0, 0, 'WITHSCORES')[2]
  if not stands then
    stands = 0
    call('PUBLISH', cell .. 'hints', line)
  end
  -- It stands further on where all wait aside, or the first are looked past.
  local stood, own = call('ZSCORE', stopped, '') or 0, call('ZSCORE', stopped, flow) or 0
  call('ZADD', flows, math.max(tonumber(stands), tonumber(stood), tonumber(own)), flow)
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

-- Forgets that a flow waits aside of a line.
local function unmark(line, flow)
  if call('SREM', cell .. 'w:' .. flow, line) == 1 then
    call('HINCRBY', cell .. 'n', '#' .. line, -1)
  end
end

-- Lets a flow that waits aside take part again, in all its lines.
local function unpark(flow)
  for _, line in ipairs(call('SMEMBERS', cell .. 'w:' .. flow)) do
    unmark(line, flow)
    if call('EXISTS', cell .. 'q:' .. line .. ':' .. flow) == 1 then
      enroll(line, flow)
      press(line, flow)
    end
  end
end
