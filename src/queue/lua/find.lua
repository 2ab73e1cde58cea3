-- Reads jobs and groups, each as it stands at one moment. Not a transaction of plain commands: a
-- full Redis refuses those.
-- ARGV: their ids
-- Returns for each {text or nil, stage or nil, a job's result or the number of a group's jobs that
-- are left or nil, {attempts}, {attempts to post its events}}
local out = {}
for at, id in ipairs(ARGV) do
  local group = id:sub(1, 4) == 'grp_'
  out[at] = {
    call('GET', cell .. (group and 'g:' or 'j:') .. id),
    call('HGET', cell .. 'm:' .. id, 's'),
    call('GET', cell .. (group and 'gl:' or 'r:') .. id),
    call('LRANGE', cell .. 'a:' .. id, 0, -1),
    group and {} or call('LRANGE', cell .. 'v:' .. id, 0, -1),
  }
end
return out
