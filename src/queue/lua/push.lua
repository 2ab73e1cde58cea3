-- Stores batches: the jobs of each, and the group that holds them, all or none. The first write
-- needs memory, so that a full Redis refuses the whole call; a first job that is there already came
-- with a push whose answer was lost.
-- ARGV for each batch: how many jobs it has, idempotency key or '', fingerprint, ms to recognise
-- it, group or '', its text; then for each job: id, text, line, flow, caller's digest, deadline in
-- ms or '', its flow's share as `weight:max_running:max_queued` or ''
-- Returns for each batch {1, how many are ready in the first job's line before it, how many of them
-- are its flow's, how many flows have something ready there}, {0, the id given before}, {-1, ''}
-- for another request under the same key, or {-2, which job (from 0) is one too many, how many jobs
-- of its flow are open}; several figures in one text
local out, lists, entered, ready_flows, opened, hurried, open = {}, {}, {}, {}, {}, {}, 0

-- Adds to a sorted set, a thousand items at a time.
local function add(set, score, id)
  local list = lists[set]
  if not list or #list == 2000 then
    if list then call('ZADD', cell .. set, unpack(list)) end
    list = {}
    lists[set] = list
  end
  list[#list + 1] = score
  list[#list + 1] = id
end

local function known(dedup, fingerprint)
  local seen = dedup ~= '' and call('GET', cell .. 'i:' .. dedup)
  if not seen then return nil end
  local length = #fingerprint
  if seen:sub(1, length + 1) ~= fingerprint .. ':' then return {-1, ''} end
  return {0, seen:sub(length + 2)}
end

-- The first of these jobs that is one too many for its flow.
local function too_many(first, jobs)
  local more
  for job = first, first + 7 * (jobs - 1), 7 do
    local flow, share = ARGV[job + 3], ARGV[job + 6]
    local most = share ~= '' and tonumber(share:match('%d*$'))
    if most then
      more = more or {}
      more[flow] = (more[flow] or 0) + 1
      local before = (opened[flow] and opened[flow].jobs or 0)
        + (call('HGET', cell .. 'w:' .. flow, 'o') or 0)
      if before + more[flow] > most then return {-2, (job - first) / 7 .. ' ' .. before} end
    end
  end
end

-- Lets a flow take part in a line, and counts those that have something ready there.
local function take_part(line, flow)
  local is_new = join(line, flow)
  if not ready_flows[line] then
    local aside = call('HGET', cell .. 'n', '#' .. line) or 0
    ready_flows[line] = call('ZCARD', cell .. 'f:' .. line) + aside
  elseif is_new then
    ready_flows[line] = ready_flows[line] + 1
  end
end

-- Counts a flow's open jobs. What the latest of them says of its share is what counts.
local function count(flow, share)
  local seen = opened[flow]
  if not seen then
    seen = {jobs = 0}
    opened[flow] = seen
  end
  seen.jobs, seen.share = seen.jobs + 1, share
end

local function store(at, jobs)
  local dedup, group, first = ARGV[at + 1], ARGV[at + 4], at + 6
  local named = group ~= '' and group or ARGV[first]
  local full = too_many(first, jobs)
  if full and call('EXISTS', cell .. 'j:' .. ARGV[first]) == 0 then return full end
  if not call('SET', cell .. 'j:' .. ARGV[first], ARGV[first + 1], 'NX') then return {0, named} end
  local told
  for job = first, first + 7 * (jobs - 1), 7 do
    local id, line, flow, deadline = ARGV[job], ARGV[job + 2], ARGV[job + 3], ARGV[job + 5]
    local queue = 'q:' .. line .. ':' .. flow
    if job > first then call('SET', cell .. 'j:' .. id, ARGV[job + 1]) end
    if not lists[queue] then take_part(line, flow) end
    if not told then
      local own = call('ZCARD', cell .. queue) + (lists[queue] and #lists[queue] / 2 or 0)
      told = {1, line, entered[line] or 0, own, ready_flows[line]}
    end
    add(queue, 0, id)
    add('x:' .. ARGV[job + 4], 0, id)
    if deadline ~= '' then
      add('deadlines', deadline, id)
      add('h:' .. line, deadline, id)
      add('d:' .. line .. ':' .. flow, deadline, id)
      hurried[queue] = {line, flow}
    end
    count(flow, ARGV[job + 6])
    entered[line] = (entered[line] or 0) + 1
  end
  if group ~= '' then
    call('SET', cell .. 'g:' .. group, ARGV[at + 5])
    call('SET', cell .. 'gl:' .. group, jobs)
  end
  if dedup ~= '' then
    call('SET', cell .. 'i:' .. dedup, ARGV[at + 2] .. ':' .. named, 'PX', ARGV[at + 3])
  end
  open = open + jobs
  return told
end

-- Counts a flow's new jobs and keeps what is said of its share: a flow may have got more of it.
local function keep(flow, new)
  local key, has_more = cell .. 'w:' .. flow, false
  local jobs = call('HINCRBY', key, 'o', new.jobs)
  if new.share ~= '' then
    local weight, cap = new.share:match('^([^:]*):(%d*):')
    call('HSET', key, 'w', weight, 'c', cap)
    local running = tonumber(call('HGET', key, 'r') or 0)
    has_more = jobs > new.jobs and running < (tonumber(cap) or math.huge)
  else
    has_more = jobs > new.jobs and call('HDEL', key, 'w', 'c') > 0
  end
  if has_more then unpark(flow) end
end

local at = 1
while at <= #ARGV do
  local jobs = tonumber(ARGV[at])
  out[#out + 1] = known(ARGV[at + 1], ARGV[at + 2]) or store(at, jobs)
  at = at + 6 + 7 * jobs
end
assert(at == #ARGV + 1, 'push: 6 arguments for each batch and 7 for each of its jobs')

for set, list in pairs(lists) do call('ZADD', cell .. set, unpack(list)) end
for _, of in pairs(hurried) do press(of[1], of[2]) end
for flow, new in pairs(opened) do keep(flow, new) end
if open > 0 then call('HINCRBY', cell .. 'n', 'open', open) end
local before = {}
for line, items in pairs(entered) do
  before[line] = call('HINCRBY', cell .. 'n', line, items) - items
end
for _, told in ipairs(out) do
  if told[1] == 1 then
    local in_line = before[told[2]] + told[3]
    told[2], told[3], told[4], told[5] = in_line .. ' ' .. told[4] .. ' ' .. told[5], nil, nil, nil
  end
end
return out
