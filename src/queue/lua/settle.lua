-- Ends a lease in any other way than by ending the job.
-- ARGV[1] item   ARGV[2] epoch   ARGV[3] back, redeliver, delivered or undeliverable
-- ARGV[4] ms before it is ready again   ARGV[5] the attempt or ''   ARGV[6] attempts to keep
-- ARGV[7] what the next holder is to know, or ''
-- Returns 1 done, 0 stale
assert(#ARGV == 7, 'settle: 7 arguments')
local id, epoch, verdict, after = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local meta = cell .. 'm:' .. id
local was = call('HMGET', meta, 's', 'e', 'n', 'f', 'k', 'b', 'v', 'j')
local stage, line, flow, keep, prefix = was[1], was[3], was[4], was[5], was[6]
local job = was[8]
if was[2] ~= epoch then return 0 end
if verdict ~= 'back' and stage ~= 'delivering' then return 0 end

withdraw(id, line, flow, prefix)
call('HINCRBY', meta, 'e', 1)
if ARGV[5] ~= '' then
  -- An event is gone once it is done; its attempts are its job's.
  local log = cell .. (job and 'v:' .. job or 'a:' .. id)
  call('RPUSH', log, ARGV[5])
  call('LTRIM', log, -ARGV[6], -1)
end
if verdict == 'back' or verdict == 'redeliver' then
  if stage == 'running' then call('HSET', meta, 's', 'queued') end
  if ARGV[7] ~= '' then call('HSET', meta, 'p', ARGV[7]) end
  if verdict == 'redeliver' then call('HINCRBY', meta, 't', 1) end
  place(id, line, flow, after, prefix)
  return 1
end
local time = now()
if job then
  call('UNLINK', meta)
  call('SREM', cell .. 'e:' .. job, id)
  local of = call('HMGET', cell .. 'm:' .. job, 's', 'k')
  if (of[1] == 'done' or of[1] == 'dead') and call('EXISTS', cell .. 'e:' .. job) == 0 then
    call('ZADD', cell .. 'gc', time + (of[2] or 0), job)
  end
  return 1
end
if verdict == 'undeliverable' then call('ZADD', cell .. 'dead', time, id) end
call('HSET', meta, 's', verdict == 'delivered' and 'done' or 'dead')
-- A job is kept for its events.
if not was[7] or call('EXISTS', cell .. 'e:' .. id) == 0 then
  call('ZADD', cell .. 'gc', time + (keep or 0), id)
end
return 1
