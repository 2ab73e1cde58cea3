-- Ends a job: keeps its result, makes its callback and its events due and counts down its group, in
-- one step.
-- ARGV[1] job   ARGV[2] epoch of the lease that ends with it, or '' to end it whoever holds it
-- ARGV[3] its line and ARGV[4] flow, where it waits if it was never leased
-- ARGV[5] result   ARGV[6] ms to keep it   ARGV[7] flow of its callback or ''   ARGV[8] ms before it
-- ARGV[9] group or ''   ARGV[10] flow of the group's callback or ''   ARGV[11] ms before it
-- ARGV[12] its prefix or '', if it was never leased   ARGV[13] 1 if it was answered
-- then for each event: event, subscription, flow, ms before it
-- Returns 1 ended, 0 stale or ended before, -1 not known
assert(#ARGV >= 13 and #ARGV % 4 == 1, 'finish: 13 arguments and 4 for each event')
local id, epoch, keep, group = ARGV[1], ARGV[2], ARGV[6], ARGV[9]
local meta = cell .. 'm:' .. id
local was = call('HMGET', meta, 's', 'e', 'n', 'f', 'b')
local stage = was[1]
if epoch ~= '' then
  if (stage ~= 'running' and stage ~= 'queued') or was[2] ~= epoch then return 0 end
elseif call('EXISTS', cell .. 'j:' .. id) == 0 then
  -- Redis lost it.
  if was[3] then withdraw(id, was[3], was[4], was[5]) end
  call('ZREM', cell .. 'deadlines', id)
  return -1
elseif stage and stage ~= 'running' and stage ~= 'queued' then
  return 0
end

-- What has ended is posted, or kept for a while, unless others wait for it.
local function follow(item, flow, after, is_awaited)
  local state = cell .. 'm:' .. item
  call('HSET', state, 's', flow ~= '' and 'delivering' or 'done', 'k', keep)
  call('HDEL', state, 'l', 't', 'p')
  call('HINCRBY', state, 'e', 1)
  if flow ~= '' then
    call('HSET', state, 'n', 'deliver', 'f', flow)
    place(item, 'deliver', flow, tonumber(after))
  elseif not is_awaited then
    call('ZADD', cell .. 'gc', now() + keep, item)
  end
end

-- Makes the job's events due.
local function tell()
  if #ARGV == 13 then return false end
  call('HSET', meta, 'v', 1)
  for at = 14, #ARGV, 4 do
    local event, flow = ARGV[at], ARGV[at + 2]
    call('SADD', cell .. 'e:' .. id, event)
    call('HSET', cell .. 'm:' .. event, 's', 'delivering', 'n', 'deliver', 'f', flow,
      'j', id, 'u', ARGV[at + 1])
    place(event, 'deliver', flow, tonumber(ARGV[at + 3]))
  end
  return true
end

local flow = was[4] or ARGV[4]
withdraw(id, was[3] or ARGV[3], flow, was[5] or ARGV[12])
call('ZREM', cell .. 'deadlines', id)
call('SET', cell .. 'r:' .. id, ARGV[5])
if epoch ~= '' and was[5] and ARGV[13] == '1' then
  -- What it begins with is cached from now on. Others of its flow may go before the oldest.
  local last, digest, ms = cell .. 'c:' .. was[3] .. ':' .. flow, was[5]:match('^(%x+):(%d+)$')
  local row = call('HSETNX', cell .. 'shares', flow .. 'p', 1) == 0 and call('GET', last)
  call('SET', last, digest .. ':' .. (row and row:match('%d+$') or 0), 'PX', ms)
end
ended(flow)
follow(id, ARGV[7], ARGV[8], tell())
if group ~= '' then
  call('HSET', meta, 'g', group)
  local left = cell .. 'gl:' .. group
  -- The count is there for as long as jobs are left: the group ends once.
  if call('EXISTS', left) == 1 and call('DECR', left) <= 0 then
    call('DEL', left)
    follow(group, ARGV[10], ARGV[11])
  end
end
return 1
