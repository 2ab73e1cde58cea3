-- How an item moves between a line and the other places it can be in. Not for a push, whose items
-- are nowhere yet: Redis makes the functions anew at every run.

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
