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

-- The smallest tag in a line: where the line stands.
local function stands(line)
  return tonumber(call('ZRANGE', cell .. 'f:' .. line, 0, 0, 'WITHSCORES')[2] or 0)
end

-- A flow with something ready takes part in its line: from where the line stands, or from where
-- the flow itself stopped when that is further on.
local function join(line, flow)
  local flows = cell .. 'f:' .. line
  if call('ZSCORE', flows, flow) then return end
  local stopped = tonumber(call('ZSCORE', cell .. 'p:' .. line, flow) or 0)
  call('ZADD', flows, math.max(stands(line), stopped), flow)
end

-- Counts items that entered a line, and tells whoever waits when it was empty before.
local function count(line, entered)
  local ready = call('HINCRBY', cell .. 'n', line, entered)
  if ready == entered then call('PUBLISH', cell .. 'hints', line) end
  return ready
end
