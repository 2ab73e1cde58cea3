-- Stores batches: the jobs of each, and the group that holds them, all or none. The first write
-- needs memory, so that a full Redis refuses the whole call; a first job that is there already came
-- with a push whose answer was lost.
-- ARGV for each batch: how many jobs it has, idempotency key or '', fingerprint, ms to recognise
-- it, group or '', its text; then for each job: id, text, line, flow, caller's digest, and what it
-- asks beyond that or '': its deadline in ms, `/`, its flow's share as
-- `max_queued/weight:max_running`, `/`, its prefix's digest; what is not said is left empty
-- Returns for each batch {1, how many are ready in the first job's line before it, how many of them
-- are its flow's, how many flows have something ready there}, {0, the id given before}, {-1} for
-- another request under the same key, or {-2, which job (from 0) is one too many, how many jobs of
-- its flow are open}
local out, lists, entered, open = {}, {}, {}, 0
-- By line, flows with something ready; by queue, items ready; by flow, new jobs and what is said of
-- their share; queues with new deadlines.
local taking_part, own, opened, shares, hurried = {}, {}, {}, {}, {}
-- Whether any flow has a share of its own: else none waits aside.
local has_shares

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
  if seen:sub(1, length + 1) ~= fingerprint .. ':' then return {-1} end
  return {0, seen:sub(length + 2)}
end

-- The first of these jobs that is one too many for its flow.
local function too_many(first, jobs)
  local more = {}
  for job = first, first + 6 * (jobs - 1), 6 do
    local flow, most = ARGV[job + 3], tonumber(ARGV[job + 5]:match('/(%d*)/') or '')
    if most then
      more[flow] = (more[flow] or 0) + 1
      local before = (opened[flow] or 0) + (call('HGET', cell .. 'o', flow) or 0)
      if before + more[flow] > most then return {-2, (job - first) / 6, before} end
    end
  end
end

-- Counts a queue of a line for the first time in this call: with nothing in it, its flow takes part
-- from now on.
local function meet(queue, line, flow)
  local items = call('ZCARD', cell .. queue)
  own[queue] = items
  if not taking_part[line] then
    if has_shares == nil then has_shares = call('EXISTS', cell .. 'shares') == 1 end
    taking_part[line] = call('ZCARD', cell .. 'f:' .. line)
      + (has_shares and call('HGET', cell .. 'n', '#' .. line) or 0)
  end
  if items == 0 then
    enroll(line, flow)
    taking_part[line] = taking_part[line] + 1
  end
end

-- Keeps what a job asks beyond being run.
local function ask(id, queue, line, flow, asked)
  local deadline, share, prefix = asked:match('^(%d*)/%d*/([^/]*)/(%x*)$')
  if deadline ~= '' then
    add('deadlines', deadline, id)
    add('h:' .. line, deadline, id)
    add('d:' .. line .. ':' .. flow, deadline, id)
    hurried[queue] = {line, flow}
  end
  if prefix ~= '' then add('b:' .. line .. ':' .. flow .. ':' .. prefix, 0, id) end
  shares[flow] = share ~= '' and share or nil
end

local function store(at, jobs)
  local dedup, group, first = ARGV[at + 1], ARGV[at + 4], at + 6
  local named = group ~= '' and group or ARGV[first]
  if jobs > 1 or ARGV[first + 5] ~= '' then
    local full = too_many(first, jobs)
    if full and call('EXISTS', cell .. 'j:' .. ARGV[first]) == 0 then return full end
  end
  if not call('SET', cell .. 'j:' .. ARGV[first], ARGV[first + 1], 'NX') then return {0, named} end
  local told
  for job = first, first + 6 * (jobs - 1), 6 do
    local id, line, flow, asked = ARGV[job], ARGV[job + 2], ARGV[job + 3], ARGV[job + 5]
    local queue = 'q:' .. line .. ':' .. flow
    if job > first then call('SET', cell .. 'j:' .. id, ARGV[job + 1]) end
    if not own[queue] then meet(queue, line, flow) end
    told = told or {1, entered[line] or 0, own[queue], taking_part[line], line = line}
    own[queue] = own[queue] + 1
    add(queue, 0, id)
    add('x:' .. ARGV[job + 4], 0, id)
    shares[flow] = nil
    if asked ~= '' then ask(id, queue, line, flow, asked) end
    opened[flow] = (opened[flow] or 0) + 1
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

local at = 1
while at <= #ARGV do
  local jobs = tonumber(ARGV[at])
  out[#out + 1] = known(ARGV[at + 1], ARGV[at + 2]) or store(at, jobs)
  at = at + 6 + 6 * jobs
end
assert(at == #ARGV + 1, 'push: 6 arguments for each batch and 6 for each of its jobs')

for set, list in pairs(lists) do call('ZADD', cell .. set, unpack(list)) end
for _, of in pairs(hurried) do press(of[1], of[2]) end
for flow, jobs in pairs(opened) do
  local share = shares[flow]
  call('HINCRBY', cell .. 'o', flow, jobs)
  -- Who may run more than before waits aside no longer.
  if share then
    call('HSET', cell .. 'shares', flow, share)
    local cap = tonumber(share:match(':(%d*)$'))
    if not cap or cap > tonumber(call('HGET', cell .. 'o', flow .. 'r') or 0) then unpark(flow) end
  elseif has_shares and call('HDEL', cell .. 'shares', flow) == 1 then
    unpark(flow)
  end
end
if open > 0 then call('HINCRBY', cell .. 'n', 'open', open) end
local before = {}
for line, items in pairs(entered) do
  before[line] = call('HINCRBY', cell .. 'n', line, items) - items
end
for _, told in ipairs(out) do
  if told[1] == 1 then told[2] = before[told.line] + told[2] end
end
return out
