-- Takes a turn from every pool, or from none.
-- KEYS     for each pool: levels, turns, marks; then the gates
-- ARGV     1 pools  2 id  3 horizon  4 lane 0..2  5 term  6-8 the lanes' shares
--          9 pause when all places are taken  10 grace of a mark  11 how late a turn is settled
--          12 how far ahead a turn is taken at the most  13 the most a lane is owed
--          14 the longest wait of a mark  15 whether it comes back 0|1
--          then for each pool: buckets, places ('' for none), and for each of its buckets the
--          setting and the cost; [now]
-- Returns  {granted 0|1, wait, obstacle, which pool or gate, next}
--          obstacle: 0 none, 1 bucket, 2 concurrency, 3 gate, 4 somebody ahead
local HEAD, LEAST_TIME, ROW, MARKS = 15, 1000, 0.9, 1000
local pools, id, horizon, lane = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local term, pause, grace, late = tonumber(ARGV[5]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local farthest, most_owed, longest = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
assert(pools and #KEYS >= 3 * pools and #ARGV >= HEAD + 2 * pools, 'take: wrong arity')

local first, looked = HEAD + 1, {}
for pool = 1, pools do
  local count, places, buckets = tonumber(ARGV[first]), tonumber(ARGV[first + 1]), {}
  first = first + 2
  for index = 1, count do
    buckets[index] = bucket_at(first)
    buckets[index].cost = tonumber(ARGV[first + BUCKET])
    first = first + BUCKET + 1
  end
  looked[pool] = {
    buckets = buckets, places = places, levels = KEYS[3 * pool - 2], turns = KEYS[3 * pool - 1],
    marks = KEYS[3 * pool], index = pool, waits = {},
  }
end
assert(#ARGV == first - 1 or #ARGV == first, 'take: wrong arity')
local now = time_now(ARGV[first])

local wait, obstacle, which, departs = 0, 0, 0, 0
local function longer(time, by, index)
  if time > wait and time > 1e-3 then
    wait, obstacle, which = time, by, index
  end
end

if #KEYS > 3 * pools then
  for index, gate in ipairs(redis.call('MGET', unpack(KEYS, 3 * pools + 1))) do
    if gate then longer(tonumber(string.match(gate, '^%S+')) - now, 3, index) end
  end
end
local gated = obstacle ~= 0

-- The asks that wait at a pool: the latest time for which somebody with another name is to be
-- given way to, which lanes wait, and the ask's own. A member is a class, a lane and a name.
local function look_at_marks(pool)
  local till, like_it, own = now, {}, math.huge
  local alive = '(' .. exact(now)
  local marks = redis.call('ZRANGEBYSCORE', pool.marks, alive, '+inf', 'WITHSCORES', 'LIMIT', 0, MARKS)
  for index = 1, #marks, 2 do
    local mark, time = marks[index], tonumber(marks[index + 1])
    if string.sub(mark, 3) == id then
      pool.own, own = mark, time
    else
      local class = tonumber(string.sub(mark, 1, 1))
      pool.waits[tonumber(string.sub(mark, 2, 2))] = true
      if class < pool.class then till = at_least(time, till) end
      if class <= pool.class then like_it[#like_it + 1] = time end
    end
  end
  longer(till - now, 4, pool.index)
  -- Whoever waits here already comes first: to ask again before would be in vain.
  local behind, slot = 0, pool.time * ROW
  for _, time in ipairs(like_it) do
    if time <= own then behind = behind + 1 end
  end
  for _, bucket in ipairs(pool.buckets) do
    local time = bucket.wait and bucket.wait - bucket.ahead or 0
    if time > 1e-3 then longer(time + behind * slot, 1, pool.index) end
  end
  -- Who waits behind others here keeps its place in the row.
  pool.reach = at_least(till - now, pool.reach) + behind * slot
  pool.row = #like_it * slot
end

local function look(pool)
  local stored = read(pool.levels, pool.buckets)
  local n = EACH * #pool.buckets
  local share = share_now(stored, n, now)
  pool.reach, pool.time = pause, LEAST_TIME
  for at, bucket in ipairs(pool.buckets) do
    local cost = bucket.cost
    if cost > 0 then
      bucket.roomier = lane == 0 and not bucket.period
      drain(bucket, stored, at, share, now)
      local time = wait_for(bucket, bucket.units, cost)
      local recovery = bucket.period and 0 or at_most(cost, bucket.burst) / bucket.rate
      -- What is taken ahead of a reset would count before it and leave after it.
      bucket.ahead = bucket.period and 0 or at_least(at_most(recovery, farthest), horizon)
      bucket.wait = time
      departs = at_least(time, departs)
      -- One more departure moves no reset.
      if not bucket.period then pool.reach = at_least(pool.reach, at_least(time, recovery)) end
      if not bucket.daily then pool.time = at_least(pool.time, cost / bucket.whole) end
    end
  end
  if pool.places then
    local running = redis.call('ZCOUNT', pool.turns, '(' .. exact(now), '+inf')
    if running >= pool.places and (tonumber(redis.call('ZSCORE', pool.turns, id)) or 0) > now then
      running = running - 1
    end
    if running >= pool.places then longer(pause, 2, pool.index) end
  end
  pool.owed = { [0] = stored[n + 5] or 0, stored[n + 6] or 0, stored[n + 7] or 0 }
  pool.class = pool.owed[lane] >= pool.time and 0 or lane + 1
  look_at_marks(pool)
end

for _, pool in ipairs(looked) do look(pool) end

if obstacle ~= 0 then
  if ARGV[15] == '1' and not gated then
    -- Keeps others back from the pools that could not recover in time from one more departure.
    for _, pool in ipairs(looked) do
      if wait <= pool.reach then
        local till = now + at_most(wait, longest) + grace
        redis.call('ZREMRANGEBYSCORE', pool.marks, '-inf', exact(now))
        local mark = pool.class .. lane .. id
        if pool.own and pool.own ~= mark then redis.call('ZREM', pool.marks, pool.own) end
        redis.call('ZADD', pool.marks, exact(till), mark)
        keep(pool.marks, till)
      end
    end
  end
  return { 0, exact(wait), obstacle, which, '0' }
end

local next_turn = 0
for _, pool in ipairs(looked) do
  local fields, gone, next_wait = {}, 0, 0
  for _, bucket in ipairs(pool.buckets) do
    if bucket.cost > 0 then
      local leak = bucket.period and 0 or bucket.rate * departs
      local units = at_least(bucket.units, leak) + bucket.cost
      if bucket.units <= 0 then
        bucket.began, bucket.low1, bucket.low2 = bucket.at, 1e300, 1e300
      else
        bucket.low1, bucket.low2 = at_most(bucket.low1, bucket.units), at_most(bucket.low2, bucket.units)
      end
      next_wait = at_least(wait_for(bucket, units, bucket.cost) - bucket.ahead, next_wait)
      gone = at_least(forgotten_at(bucket, units), gone)
      add_level(fields, bucket, units)
    end
  end
  next_turn = at_least(next_wait + pool.row, next_turn)
  for other = 0, 2 do
    local owed = pool.owed[other]
    if other == lane then
      owed = at_least(owed - (1 - tonumber(ARGV[6 + other])) * pool.time, 0)
    elseif pool.waits[other] then
      owed = at_most(owed + tonumber(ARGV[6 + other]) * pool.time, most_owed)
    end
    if owed ~= pool.owed[other] then
      fields[#fields + 1], fields[#fields + 2] = 'd' .. other, exact(owed)
    end
  end
  if #fields > 0 then
    redis.call('HSET', pool.levels, unpack(fields))
    keep(pool.levels, at_least(gone, now))
  end
  if pool.own then redis.call('ZREM', pool.marks, pool.own) end
  local till = now + departs + term
  redis.call('ZREMRANGEBYSCORE', pool.turns, '-inf', '(' .. exact(now - late))
  redis.call('ZADD', pool.turns, exact(till), id)
  keep(pool.turns, till + late)
end
return { 1, exact(departs), 0, 0, exact(next_turn) }
