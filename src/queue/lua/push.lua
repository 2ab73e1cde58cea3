-- Stores jobs, and the group that holds them, all or none. The first write needs memory, so that
-- a full Redis refuses the whole; a first job that is there already came with a push whose answer
-- was lost.
-- ARGV[1] idempotency key or ''   ARGV[2] fingerprint   ARGV[3] ms to recognise it
-- ARGV[4] group or ''   ARGV[5] its text
-- then for each job: id, text, line, flow, caller's digest, deadline in ms or ''
-- Returns {1, the first job's position}, {0, the id given before} or {-1, ''}
assert(#ARGV >= 11 and (#ARGV - 5) % 6 == 0, 'push: 5 arguments and 6 for each job')
local dedup, fingerprint, group = ARGV[1], ARGV[2], ARGV[4]
local named = group ~= '' and group or ARGV[6]
if dedup ~= '' then
  local seen = call('GET', cell .. 'i:' .. dedup)
  if seen then
    local length = #fingerprint
    if seen:sub(1, length + 1) ~= fingerprint .. ':' then return {-1, ''} end
    return {0, seen:sub(length + 2)}
  end
end

if not call('SET', cell .. 'j:' .. ARGV[6], ARGV[7], 'NX') then return {0, named} end

local entered, last_line, last_flow = {}, nil, nil
for at = 6, #ARGV, 6 do
  local id, line, flow, deadline = ARGV[at], ARGV[at + 2], ARGV[at + 3], ARGV[at + 5]
  if at > 6 then call('SET', cell .. 'j:' .. id, ARGV[at + 1]) end
  call('ZADD', cell .. 'q:' .. line .. ':' .. flow, 0, id)
  call('ZADD', cell .. 'x:' .. ARGV[at + 4], 0, id)
  if deadline ~= '' then call('ZADD', cell .. 'deadlines', deadline, id) end
  if line ~= last_line or flow ~= last_flow then join(line, flow) end
  last_line, last_flow = line, flow
  entered[line] = (entered[line] or 0) + 1
end

local jobs = (#ARGV - 5) / 6
if group ~= '' then
  call('SET', cell .. 'g:' .. group, ARGV[5])
  call('SET', cell .. 'gl:' .. group, jobs)
end
if dedup ~= '' then
  call('SET', cell .. 'i:' .. dedup, fingerprint .. ':' .. named, 'PX', ARGV[3])
end
call('HINCRBY', cell .. 'n', 'open', jobs)
local position
for line, items in pairs(entered) do
  local ready = count(line, items)
  if line == ARGV[8] then position = ready - items + 1 end
end
return {1, position}
