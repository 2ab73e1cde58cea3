-- How an item moves between a line and the other places it can be in. Not for a push, whose items
-- are nowhere yet: Redis makes the functions anew at every run.

-- A flow takes part no longer: it has nothing ready, or waits aside. The tag its next item has is
-- remembered for as long as others have something ready; where the line stands too, when they all
-- wait aside. `rest` is how many items are ready in the line.
local function stop(line, flow, tag, next_tag, rest)
  local flows, stopped = cell .. 'f:' .. line, cell .. 'p:' .. line
  call('ZREM', flows, flow)
  if call('EXISTS', flows) == 1 then
    call('ZADD', stopped, next_tag, flow)
  elseif rest > 0 then
    call('ZADD', stopped, next_tag, flow, tag, '')
  else
    call('UNLINK', stopped)
  end
end

-- A flow that runs all it may waits aside until one of its leases ends.
local function park(line, flow, tag, next_tag)
  stop(line, flow, tag, next_tag, 1)
  call('ZREM', cell .. 'u:' .. line, flow)
  if call('SADD', cell .. 'w:' .. flow, line) == 1 then
    call('HINCRBY', cell .. 'n', '#' .. line, 1)
  end
end

-- A flow's weight, how many of its jobs may run at once if that is limited, and whether it may have
-- something warm.
local function share(flow)
  local told = call('HMGET', cell .. 'shares', flow, flow .. 'p')
  if not told[1] then return 1, nil, told[2] end
  local weight, cap = told[1]:match('^([^:]*):(%d*)$')
  return tonumber(weight), tonumber(cap), told[2]
end

-- Where a flow's ready jobs with a prefix (`digest:ms`) are; nil without one.
local function alike(line, flow, prefix)
  local digest = prefix and line ~= 'deliver' and prefix:match('^%x+')
  return digest and cell .. 'b:' .. line .. ':' .. flow .. ':' .. digest
end

-- A lease on a flow's job ended: it may run another.
local function released(line, flow)
  if line == 'deliver' then return end
  local running = call('HINCRBY', cell .. 'o', flow .. 'r', -1)
  local _, cap = share(flow)
  if cap and running < cap then unpark(flow) end
end

-- One of a flow's jobs ended. Of a flow without open jobs nothing is kept.
local function ended(flow)
  call('HINCRBY', cell .. 'n', 'open', -1)
  if call('HINCRBY', cell .. 'o', flow, -1) > 0 then return end
  call('HDEL', cell .. 'o', flow, flow .. 'r')
  if call('HDEL', cell .. 'shares', flow, flow .. 'p') > 0 then unpark(flow) end
end

-- A ready item's deadline counts no longer. Whether it had one.
local function shed(id, line, flow)
  if call('ZREM', cell .. 'h:' .. line, id) == 0 then return false end
  call('ZREM', cell .. 'd:' .. line .. ':' .. flow, id)
  press(line, flow)
  return true
end

local function enter(id, line, flow, prefix)
  if call('ZADD', cell .. 'q:' .. line .. ':' .. flow, 0, id) == 0 then return end
  local beside = alike(line, flow, prefix)
  if beside then call('ZADD', beside, 0, id) end
  call('HSET', cell .. 'm:' .. id, 'd', now())
  -- One that waits aside goes on waiting.
  if not call('ZSCORE', cell .. 'f:' .. line, flow)
    and call('SISMEMBER', cell .. 'w:' .. flow, line) == 0 then
    enroll(line, flow)
  end
  call('HINCRBY', cell .. 'n', line, 1)
  local by = line ~= 'deliver' and call('ZSCORE', cell .. 'deadlines', id)
  if by then
    call('ZADD', cell .. 'h:' .. line, by, id)
    call('ZADD', cell .. 'd:' .. line .. ':' .. flow, by, id)
    press(line, flow)
  end
end

local function leave(id, line, flow, prefix)
  local ready, beside = cell .. 'q:' .. line .. ':' .. flow, alike(line, flow, prefix)
  if call('ZREM', ready, id) == 0 then return end
  if beside then call('ZREM', beside, id) end
  shed(id, line, flow)
  local rest = call('HINCRBY', cell .. 'n', line, -1)
  if call('EXISTS', ready) == 0 then
    local tag = call('ZSCORE', cell .. 'f:' .. line, flow)
    if tag then
      stop(line, flow, tag, tag, rest)
    else
      unmark(line, flow)
      if rest == 0 then call('UNLINK', cell .. 'p:' .. line) end
    end
  end
  if rest == 0 then call('ZREM', cell .. 'h:' .. line, '') end
end

-- Puts an item into its line, now or later.
local function place(id, line, flow, after, prefix)
  if after > 0 then
    call('ZADD', cell .. 'due', now() + after, id)
  else
    enter(id, line, flow, prefix)
  end
end

-- Takes an item from wherever it is: in somebody's hands, delayed, lost or ready. The first write
-- needs no memory; a Redis before 7 lets the others follow it even when it is full.
local function withdraw(id, line, flow, prefix)
  if call('ZREM', cell .. 'lease', id) == 1 then return released(line, flow) end
  for _, place in ipairs({'due', 'lost'}) do
    if call('ZREM', cell .. place, id) == 1 then return end
  end
  leave(id, line, flow, prefix)
end
