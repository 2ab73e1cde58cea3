-- Hands out items of a line, in fair order: always the oldest of the flow with the smallest tag.
-- ARGV[1] line   ARGV[2] the most items   ARGV[3] ms they are held
-- Returns for each {id, epoch, losses, tries, replays, progress, text, result or nil}
assert(#ARGV == 3, 'lease: 3 arguments')
local line, most, term = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local flows, expires, delivery = cell .. 'f:' .. line, now() + term, line == 'deliver'
local out, left = {}, 0

local function hold(id, flow)
  local group = id:sub(1, 4) == 'grp_'
  local text = call('GET', cell .. (group and 'g:' or 'j:') .. id)
  local result = delivery and not group and call('GET', cell .. 'r:' .. id)
  if not text or (delivery and not group and not result) then
    -- Redis lost what belongs to it: nothing can be done with it any more.
    if not delivery then call('HINCRBY', cell .. 'n', 'open', -1) end
    call('ZREM', cell .. 'deadlines', id)
    call('UNLINK', cell .. 'm:' .. id)
    return
  end
  local meta = cell .. 'm:' .. id
  local was = call('HMGET', meta, 'e', 'l', 't', 'r', 'p')
  local epoch = (was[1] or 0) + 1
  call('HSET', meta, 'e', epoch, 's', delivery and 'delivering' or 'running',
    'n', line, 'f', flow)
  call('ZADD', cell .. 'lease', expires, id)
  out[#out + 1] = {id, epoch, tonumber(was[2] or 0), tonumber(was[3] or 0),
    tonumber(was[4] or 0), was[5] or '', text, result}
end

-- A few rounds more than asked for, in case some find nothing.
for _ = 1, most + 16 do
  if #out == most then break end
  local first = call('ZRANGE', flows, 0, 0, 'WITHSCORES')
  local flow, tag = first[1], tonumber(first[2])
  if not flow then break end
  local ready = cell .. 'q:' .. line .. ':' .. flow
  local id = call('ZPOPMIN', ready)[1]
  if id then
    left = left + 1
    hold(id, flow)
  end
  if call('EXISTS', ready) == 1 then
    call('ZADD', flows, tag + 1, flow)
  else
    stop(line, flow, tag + 1)
  end
end

if left > 0 then
  call('HINCRBY', cell .. 'n', line, -left)
  -- A flow that stopped no further on than the line stands needs no remembering.
  local stopped = cell .. 'p:' .. line
  local over = call('ZRANGEBYSCORE', stopped, '-inf', stands(line), 'LIMIT', 0, most + 16)
  if #over > 0 then call('ZREM', stopped, unpack(over)) end
end
return out
