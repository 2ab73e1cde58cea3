-- Brings an ended job or group back.
-- ARGV[1] item   ARGV[2] run or post   ARGV[3] line   ARGV[4] flow, or '' for that of its callback
-- before   ARGV[5] ms before it is ready
-- ARGV[6] the job's deadline in ms or ''   ARGV[7] the job's group or ''
-- ARGV[8] its flow's share as `weight:max_running`, or ''   ARGV[9] its prefix as `digest:ms` or ''
-- Returns 1 under way, 0 not ended or never had a callback
assert(#ARGV == 9, 'replay: 9 arguments')
local id, run, line, flow = ARGV[1], ARGV[2] == 'run', ARGV[3], ARGV[4]
local meta = cell .. 'm:' .. id
local was = call('HMGET', meta, 's', 'n', 'f')
local stage = was[1]
if stage ~= 'delivering' and stage ~= 'done' and stage ~= 'dead' then return 0 end
if flow == '' then
  if was[2] ~= 'deliver' then return 0 end
  flow = was[3]
end

withdraw(id, was[2] or '', was[3] or '')
call('ZREM', cell .. 'gc', id)
call('ZREM', cell .. 'dead', id)
call('HDEL', meta, 'l', 't')
call('HINCRBY', meta, 'e', 1)
call('HSET', meta, 's', run and 'queued' or 'delivering', 'n', line, 'f', flow)
if run then
  call('HINCRBY', meta, 'r', 1)
  if ARGV[9] ~= '' then call('HSET', meta, 'b', ARGV[9]) end
  -- What was not told yet of its former end is told no more.
  for _, event in ipairs(call('SMEMBERS', cell .. 'e:' .. id)) do
    local of = call('HMGET', cell .. 'm:' .. event, 'n', 'f')
    withdraw(event, of[1] or 'deliver', of[2] or '')
    call('UNLINK', cell .. 'm:' .. event)
  end
  call('HDEL', meta, 'v')
  call('DEL', cell .. 'r:' .. id, cell .. 'a:' .. id, cell .. 'e:' .. id, cell .. 'v:' .. id)
  call('HINCRBY', cell .. 'n', 'open', 1)
  -- What a push said since counts more than what the job's own said.
  if call('HINCRBY', cell .. 'o', flow, 1) == 1 and ARGV[8] ~= '' then
    call('HSET', cell .. 'shares', flow, ARGV[8])
  end
  -- A deadline that has passed does not count again.
  if ARGV[6] ~= '' and tonumber(ARGV[6]) > now() then
    call('ZADD', cell .. 'deadlines', ARGV[6], id)
  end
  -- A group that waits for others waits for this one too; one that has ended stays ended.
  local left = cell .. 'gl:' .. ARGV[7]
  if ARGV[7] ~= '' and call('EXISTS', left) == 1 then call('INCR', left) end
end
place(id, line, flow, tonumber(ARGV[5]), ARGV[9])
return 1
