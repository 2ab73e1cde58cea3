-- Does what the passing of time asks for: delayed items enter their lines, and so do those whose
-- holder vanished.
-- ARGV[1] the most of each kind   ARGV[2] losses after which a job is lost
-- Returns {due, freed, {lost jobs}, {expired jobs}, {items to be purged}}
assert(#ARGV == 2, 'sweep: 2 arguments')
local most, losses, time = ARGV[1], tonumber(ARGV[2]), now()

local function passed(set)
  return call('ZRANGEBYSCORE', cell .. set, '-inf', time, 'LIMIT', 0, most)
end

local due, freed = 0, 0
for _, id in ipairs(passed('due')) do
  call('ZREM', cell .. 'due', id)
  local was = call('HMGET', cell .. 'm:' .. id, 'n', 'f', 'b')
  if was[1] then
    enter(id, was[1], was[2], was[3])
    due = due + 1
  end
end
for _, id in ipairs(passed('lease')) do
  local meta = cell .. 'm:' .. id
  local was = call('HMGET', meta, 's', 'l', 'n', 'f', 'b')
  local running, count = was[1] == 'running', (was[2] or 0) + 1
  call('ZREM', cell .. 'lease', id)
  if was[1] then released(was[3], was[4]) end
  if running and count >= losses then
    call('HSET', meta, 'l', count, 's', 'queued')
    call('ZADD', cell .. 'lost', time, id)
  elseif was[1] then
    call('HSET', meta, 'l', count, 's', running and 'queued' or was[1])
    enter(id, was[3], was[4], was[5])
    freed = freed + 1
  end
end

-- Told until they are ended: those told now come after those that have not been told yet.
local function tell(set)
  local ids = passed(set)
  for _, id in ipairs(ids) do call('ZADD', cell .. set, time, id) end
  return ids
end
return {due, freed, tell('lost'), tell('deadlines'), passed('gc')}
