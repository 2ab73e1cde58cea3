-- Removes what is kept no longer, with everything that belongs to it.
-- ARGV for each: id, its caller's digest or ''
-- Returns how many were removed
assert(#ARGV % 2 == 0, 'purge: 2 arguments for each item')
local purged, time = 0, now()

-- A job is kept for as long as its group, whose callback tells its result.
local function kept_until(group)
  if not group or call('EXISTS', cell .. 'g:' .. group) == 0 then return nil end
  local ends = tonumber(call('ZSCORE', cell .. 'gc', group) or 0)
  return math.max(ends + 1, time + 1000)
end

for at = 1, #ARGV, 2 do
  local id = ARGV[at]
  local ends = tonumber(call('ZSCORE', cell .. 'gc', id) or math.huge)
  if ends <= time then
    local later = kept_until(call('HGET', cell .. 'm:' .. id, 'g'))
    if later then
      call('ZADD', cell .. 'gc', later, id)
    else
      call('ZREM', cell .. 'gc', id)
      call('ZREM', cell .. 'dead', id)
      if ARGV[at + 1] ~= '' then call('ZREM', cell .. 'x:' .. ARGV[at + 1], id) end
      local function key(kind) return cell .. kind .. id end
      call('UNLINK', key('j:'), key('m:'), key('r:'), key('a:'), key('v:'), key('g:'), key('gl:'))
      purged = purged + 1
    end
  end
end
return purged
