-- Hands out items of a line, in fair order: the oldest of the flow with the smallest tag, or one with
-- the prefix that is warm there, or, every second time at most, the job whose deadline is nearest
-- when it is near.
-- ARGV[1] line   ARGV[2] the most items   ARGV[3] ms they are held
-- ARGV[4] ms within which a deadline is near   ARGV[5] own turns a flow may be ahead by such jobs
-- ARGV[6] the most items of a flow in a row that go before the oldest for what they begin with
-- ARGV[7] owners whose flows are looked past, with spaces between   ARGV[8] the most flows to look at
-- Returns for each {id, epoch, losses, tries, replays, progress, text, result or nil}
assert(#ARGV == 8, 'lease: 8 arguments')
local line, most, term = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local near, debt, in_a_row = now() + tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local flows, expires, delivery = cell .. 'f:' .. line, now() + term, line == 'deliver'
local hurried, pressing = cell .. 'h:' .. line, cell .. 'u:' .. line
-- The smallest scores of the line's deadlines tell whether there are any, and its member '' that
-- the one leased last was pulled forward.
local first = delivery and {} or call('ZRANGE', hurried, 0, 1)
local pulled = first[1] == ''
local pulled_before, has_deadlines = pulled, (pulled and first[2] or first[1]) ~= nil
local out, served = {}, false

-- What a job's text tells of its prompt's prefix, right behind the id.
local BEGINS = '^{"id":"[%w_]+","prefix":{"digest":"(%x+)","warm_ms":(%d+)}'

-- Takes the oldest of a flow's items that begin as the one that was answered last, while that is
-- warm, unless enough of them went before the oldest of all. Notes how many did in a row.
local function take_alike(ready, flow)
  local last = cell .. 'c:' .. line .. ':' .. flow
  local digest, row = (call('GET', last) or ''):match('^(%x+):(%d+)$')
  if not digest then return nil end
  row = tonumber(row)
  local set, oldest, id = cell .. 'b:' .. line .. ':' .. flow .. ':' .. digest, nil, nil
  if row < in_a_row then
    oldest, id = call('ZRANGE', ready, 0, 0)[1], call('ZRANGE', set, 0, 0)[1]
    if id and call('ZREM', ready, id) == 0 then
      -- Redis lost where it was ready.
      call('ZREM', set, id)
      id = nil
    end
  end
  local next_row = id and id ~= oldest and row + 1 or 0
  if next_row ~= row then call('SET', last, digest .. ':' .. next_row, 'KEEPTTL') end
  return id
end

-- An item's text (an event's: its job and its subscription) and, where it is posted, the job's
-- result. Nothing when something of that is not there.
local function read(id)
  local kind, job, text = id:sub(1, 4), id, nil
  if kind == 'grp_' then return call('GET', cell .. 'g:' .. id), false end
  if kind == 'evt_' then
    local of = call('HMGET', cell .. 'm:' .. id, 'j', 'u')
    job, text = of[1], of[2] and of[1] .. '/' .. of[2]
    if not text then return nil end
  else
    text = call('GET', cell .. 'j:' .. id)
  end
  local result = delivery and call('GET', cell .. 'r:' .. job)
  if delivery and not result then
    call('UNLINK', cell .. 'e:' .. job)
    return nil
  end
  return text, result
end

-- Leases an item that was taken. Whether it can be handed out.
local function hold(id, flow)
  local text, result = read(id)
  if not text then
    -- Redis lost what belongs to it: nothing can be done with it any more.
    local beside = alike(line, flow, call('HGET', cell .. 'm:' .. id, 'b'))
    if beside then call('ZREM', beside, id) end
    call('ZREM', cell .. 'deadlines', id)
    call('UNLINK', cell .. 'm:' .. id)
    if not delivery then ended(flow) end
    return false
  end
  local meta = cell .. 'm:' .. id
  local was = call('HMGET', meta, 'e', 'l', 't', 'r', 'p')
  local epoch = (was[1] or 0) + 1
  call('HSET', meta, 'e', epoch, 's', delivery and 'delivering' or 'running',
    'n', line, 'f', flow)
  call('ZADD', cell .. 'lease', expires, id)
  local digest, ms
  if not delivery then digest, ms = text:match(BEGINS) end
  local prefix = digest and digest .. ':' .. ms
  if prefix then
    call('HSET', meta, 'b', prefix)
    call('ZREM', alike(line, flow, prefix), id)
  end
  out[#out + 1] = {id, epoch, tonumber(was[2] or 0), tonumber(was[3] or 0),
    tonumber(was[4] or 0), was[5] or '', text, result}
  return true
end

-- Where the line stands when flows that were looked past are behind it: they do not save up turns.
local stopped = cell .. 'p:' .. line
local stood = delivery and tonumber(call('ZSCORE', stopped, '') or 0) or 0
local past = {}
for owner in ARGV[7]:gmatch('%S+') do past[owner] = true end

-- The flow with the smallest tag, and the tag; but for those that are looked past.
local function first_flow()
  local most_past = tonumber(ARGV[8])
  local many = next(past) and 128 or 1
  for from = 0, most_past - 1, many do
    local some = call('ZRANGE', flows, from, from + many - 1, 'WITHSCORES')
    for at = 1, #some, 2 do
      if not past[some[at]:match('^(%x+)%.')] then return some[at], tonumber(some[at + 1]) end
    end
    if #some < 2 * many then return nil end
  end
end

-- Whose turn it is, and its tag; by its deadline or by its tag.
local function next_flow()
  if has_deadlines and not pulled then
    local nearest = call('ZRANGE', pressing, 0, 0, 'WITHSCORES')
    if nearest[1] and tonumber(nearest[2]) <= near then
      return nearest[1], tonumber(call('ZSCORE', flows, nearest[1]) or 0), true
    end
  end
  local flow, tag = first_flow()
  return flow, tag and math.max(tag, stood), false
end

-- Takes a flow's oldest item, one that begins as the one before did, or the one whose deadline is
-- nearest.
local function take(flow, tag, by_deadline)
  local weight, cap, running, has_warm = 1, nil, 0, false
  if not delivery then weight, cap, has_warm = share(flow) end
  if cap then running = tonumber(call('HGET', cell .. 'o', flow .. 'r') or 0) end
  if cap and running >= cap then return park(line, flow, tag, tag) end
  if by_deadline then
    local stands = tonumber(call('ZRANGE', flows, 0, 0, 'WITHSCORES')[2] or tag)
    -- Its next own turn presses it again.
    if (tag - stands) * weight > debt then return call('ZREM', pressing, flow) end
  end
  local ready, id = cell .. 'q:' .. line .. ':' .. flow
  if by_deadline then
    id = call('ZRANGE', cell .. 'd:' .. line .. ':' .. flow, 0, 0)[1]
    if not id then return press(line, flow) end
    if call('ZREM', ready, id) == 0 then return shed(id, line, flow) end
  else
    id = has_warm and take_alike(ready, flow) or call('ZPOPMIN', ready)[1]
  end
  local rest, next_tag = call('HINCRBY', cell .. 'n', line, id and -1 or 0), tag + 1 / weight
  if id then
    served, pulled = true, by_deadline
    if next(past) then stood = tag end
    if hold(id, flow) and not delivery then
      running = call('HINCRBY', cell .. 'o', flow .. 'r', 1)
    end
  end
  if call('EXISTS', ready) == 0 then
    stop(line, flow, tag, next_tag, rest)
  elseif cap and running >= cap then
    park(line, flow, tag, next_tag)
  else
    call('ZADD', flows, next_tag, flow)
  end
  if id and has_deadlines and not shed(id, line, flow) then press(line, flow) end
  if rest == 0 then pulled = false end
end

-- Many rounds more than asked for: every one that finds nothing puts a flow aside that will not be
-- met again, so that flows that run all they may do not hide the others.
local rounds = most + 1000
while #out < most and rounds > 0 do
  rounds = rounds - 1
  local flow, tag, by_deadline = next_flow()
  if not flow then break end
  take(flow, tag, by_deadline)
end
if rounds == 0 and #out == 0 then call('PUBLISH', cell .. 'hints', line) end

if pulled ~= pulled_before then
  if pulled then call('ZADD', hurried, '-inf', '') else call('ZREM', hurried, '') end
end
local stands = served and call('ZRANGE', flows, 0, 0, 'WITHSCORES')[2]
if stands then
  if next(past) then call('ZADD', stopped, stood, '') end
  -- A flow that stopped no further on than the line stands needs no remembering.
  local over = call('ZRANGEBYSCORE', stopped, '-inf', stands, 'LIMIT', 0, most + 16)
  if #over > 0 then call('ZREM', stopped, unpack(over)) end
end
return out
