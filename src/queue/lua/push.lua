-- Stores batches: the jobs of each, and the group that holds them, all or none. The first write
-- needs memory, so that a full Redis refuses the whole call; a first job that is there already came
-- with a push whose answer was lost.
-- ARGV for each batch: how many jobs it has, idempotency key or '', fingerprint, ms to recognise
-- it, group or '', its text; then for each job: id, text, line, flow, caller's digest, deadline in
-- ms or ''
-- Returns for each batch {1, the first job's position}, {0, the id given before} or {-1, ''}
local out, lists, entered, open = {}, {}, {}, 0

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

local function store(at, jobs)
  local dedup, group, first = ARGV[at + 1], ARGV[at + 4], at + 6
  local named = group ~= '' and group or ARGV[first]
  if not call('SET', cell .. 'j:' .. ARGV[first], ARGV[first + 1], 'NX') then return {0, named} end
  local first_line = ARGV[first + 2]
  local position = (entered[first_line] or 0) + 1
  for job = first, first + 6 * (jobs - 1), 6 do
    local id, line, flow, deadline = ARGV[job], ARGV[job + 2], ARGV[job + 3], ARGV[job + 5]
    local queue = 'q:' .. line .. ':' .. flow
    if job > first then call('SET', cell .. 'j:' .. id, ARGV[job + 1]) end
    if not lists[queue] then join(line, flow) end
    add(queue, 0, id)
    add('x:' .. ARGV[job + 4], 0, id)
    if deadline ~= '' then add('deadlines', deadline, id) end
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
  return {1, position, first_line}
end

local at = 1
while at <= #ARGV do
  local jobs = tonumber(ARGV[at])
  out[#out + 1] = known(ARGV[at + 1], ARGV[at + 2]) or store(at, jobs)
  at = at + 6 + 6 * jobs
end
assert(at == #ARGV + 1, 'push: 6 arguments for each batch and 6 for each of its jobs')

for set, list in pairs(lists) do call('ZADD', cell .. set, unpack(list)) end
if open > 0 then call('HINCRBY', cell .. 'n', 'open', open) end
local before = {}
for line, items in pairs(entered) do before[line] = count(line, items) - items end
for _, told in ipairs(out) do
  if told[1] == 1 then told[2], told[3] = before[told[3]] + told[2], nil end
end
return out
