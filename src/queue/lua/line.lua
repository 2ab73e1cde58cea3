-- What every script begins with: the time, and how an item enters and leaves a line.
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

-- A flow with nothing ready is remembered for as long as others take part.
local function stop(line, flow, tag)
  local flows = cell .. 'f:' .. line
  call('ZREM', flows, flow)
  if call('EXISTS', flows) == 1 then
    call('ZADD', cell .. 'p:' .. line, tag, flow)
  else
    call('UNLINK', cell .. 'p:' .. line)
  end
end

-- Counts items that entered a line, and tells whoever waits when it was empty before.
local function count(line, entered)
  local ready = call('HINCRBY', cell .. 'n', line, entered)
  if ready == entered then call('PUBLISH', cell .. 'hints', line) end
  return ready
end

local function enter(id, line, flow)
  if call('ZADD', cell .. 'q:' .. line .. ':' .. flow, 0, id) == 0 then return end
  call('HSET', cell .. 'm:' .. id, 'd', now())
  join(line, flow)
  count(line, 1)
end

local function leave(id, line, flow)
  local ready = cell .. 'q:' .. line .. ':' .. flow
  if call('ZREM', ready, id) == 0 then return end
  if call('EXISTS', ready) == 0 then
    stop(line, flow, call('ZSCORE', cell .. 'f:' .. line, flow) or 0)
  end
  call('HINCRBY', cell .. 'n', line, -1)
end

-- Puts an item into its line, now or later.
local function place(id, line, flow, after)
  if after > 0 then
    call('ZADD', cell .. 'due', now() + after, id)
  else
    enter(id, line, flow)
  end
end

-- Takes an item from wherever it is: in somebody's hands, delayed, lost or ready. The first write
-- needs no memory; a Redis before 7 lets the others follow it even when it is full.
local function withdraw(id, line, flow)
  for _, place in ipairs({'lease', 'due', 'lost'}) do
    if call('ZREM', cell .. place, id) == 1 then return end
  end
  leave(id, line, flow)
end
