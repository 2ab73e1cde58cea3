-- Does what the passing of time asks for: delayed items enter their lines, and so do those whose
-- holder vanished.
-- ARGV[1] the most of each kind   ARGV[2] losses after which a job is lost
-- ARGV[3] ms without a sweep after which nobody was answered   ARGV[4] ms of grace after that
-- Returns {due, freed, {lost jobs}, {expired jobs}, {items to be purged}}
assert(#ARGV == 4, 'sweep: 4 arguments')
local most, losses, time = ARGV[1], tonumber(ARGV[2]), now()
local away, grace = tonumber(ARGV[3]), tonumber(ARGV[4])
-- See withdraw: a write that needs no memory comes first.
call('ZREM', cell .. 'due', '')

local function passed(set)
  return call('ZRANGEBYSCORE', cell .. set, '-inf', time, 'LIMIT', 0, most)
end

-- Whether leases that ran out are taken from their holders. While nobody was answered nobody could
-- renew or settle one, so what was held until then is left to its holder for a while.
local function frees()
  local last, lenient = (call('GET', cell .. 'swept') or ''):match('^(%d+):(%d+)$')
  last, lenient = tonumber(last or time), tonumber(lenient or 0)
  if time - last > away and time > lenient + grace then lenient = time + grace end
  if time == last or time - last > 500 then
    call('SET', cell .. 'swept', string.format('%d:%d', time, lenient))
  end
  return time > lenient
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
for _, id in ipairs(frees() and passed('lease') or {}) do
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
