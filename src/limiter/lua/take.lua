-- Takes a turn from every pool, or from none.
-- KEYS     for each pool: levels, turns, marks; then the gates
-- ARGV     1 pools  2 id  3 horizon  4 urgent 0|1  5 term  6-8 cost on each axis
--          9 pause when all places are taken  10 grace of a mark  11 how late a turn is settled
--          then for each pool: rate and burst on each axis, places ('' for none); [now]
-- Returns  {granted 0|1, wait, obstacle, which pool or gate}
--          obstacle: 0 none, 1 bucket, 2 concurrency, 3 gate, 4 urgent
local HEAD, EACH = 11, 7
local pools = tonumber(ARGV[1])
local settings = HEAD + EACH * pools
assert(#KEYS >= 3 * pools and #ARGV >= settings and #ARGV <= settings + 1, 'take: wrong arity')
local id, horizon, urgent, term = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5])
local pause, grace, late = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local now = time_now(ARGV[settings + 1])

-- The longest wait, and whether something is in the way that no horizon reaches beyond.
local wait, obstacle, which, held = 0, 0, 0, false
local function longer(time, by, index)
  if time > wait then
    wait, obstacle, which = time, by, index
  end
end

if #KEYS > 3 * pools then
  local gates = redis.call('MGET', unpack(KEYS, 3 * pools + 1))
  for index, gate in ipairs(gates) do
    local left = gate and tonumber(string.match(gate, '^%S+')) - now or 0
    if left > 0 then
      held = true
      longer(left, 3, index)
    end
  end
end
local gated = held

-- Looks at a pool. Answers its buckets and the longest wait from which it could not recover in
-- time if another departed now.
local function look(pool)
  local first = HEAD + EACH * (pool - 1)
  local levels, turns, marks = KEYS[3 * pool - 2], KEYS[3 * pool - 1], KEYS[3 * pool]
  local stored = redis.call('HMGET', levels, 'u1', 'a1', 'u2', 'a2', 'u3', 'a3')
  local buckets, reach = {}, pause
  for axis = 1, 3 do
    local rate, burst = tonumber(ARGV[first + 2 * axis - 1]), tonumber(ARGV[first + 2 * axis])
    local cost = tonumber(ARGV[5 + axis])
    if rate and cost > 0 then
      local units, at = drained(stored[2 * axis - 1], stored[2 * axis], rate, now)
      local over = units - (burst - math.min(cost, burst))
      local time = over <= 0 and 0 or math.ceil(over / rate)
      longer(time, 1, pool)
      reach = math.max(reach, time, math.min(cost, burst) / rate)
      table.insert(buckets, { axis = axis, rate = rate, cost = cost, units = units, at = at })
    end
  end
  local places = tonumber(ARGV[first + 7])
  if places then
    local running = redis.call('ZCOUNT', turns, '(' .. exact(now), '+inf')
    if running >= places and (tonumber(redis.call('ZSCORE', turns, id)) or 0) > now then
      running = running - 1
    end
    if running >= places then
      held = true
      longer(pause, 2, pool)
    end
  end
  if not urgent then
    local mark = redis.call('ZRANGE', marks, 0, 0, 'REV', 'WITHSCORES')
    local left = (tonumber(mark[2]) or 0) - now
    if left > 0 then
      held = true
      longer(left, 4, pool)
    end
  end
  return buckets, reach
end

local looked, reaches = {}, {}
for pool = 1, pools do
  looked[pool], reaches[pool] = look(pool)
end

if held or wait > horizon then
  if urgent and not gated then
    -- Keeps others back from the pools that could not recover in time from one more departure.
    for pool = 1, pools do
      if wait <= reaches[pool] then
        local marks, till = KEYS[3 * pool], now + wait + grace
        redis.call('ZREMRANGEBYSCORE', marks, '-inf', exact(now))
        redis.call('ZADD', marks, exact(till), id)
        keep(marks, till)
      end
    end
  end
  return { 0, exact(wait), obstacle, which }
end

for pool = 1, pools do
  local levels, turns, marks = KEYS[3 * pool - 2], KEYS[3 * pool - 1], KEYS[3 * pool]
  local fields, empty_at = {}, 0
  for _, bucket in ipairs(looked[pool]) do
    local units = math.max(bucket.units, bucket.rate * wait) + bucket.cost
    empty_at = math.max(empty_at, bucket.at + units / bucket.rate)
    table.insert(fields, 'u' .. bucket.axis)
    table.insert(fields, exact(units))
    table.insert(fields, 'a' .. bucket.axis)
    table.insert(fields, exact(bucket.at))
  end
  if #fields > 0 then
    redis.call('HSET', levels, unpack(fields))
    keep(levels, empty_at)
  end
  local till = now + wait + term
  redis.call('ZREMRANGEBYSCORE', turns, '-inf', '(' .. exact(now - late))
  redis.call('ZADD', turns, exact(till), id)
  keep(turns, till + late)
  if urgent then
    redis.call('ZREM', marks, id)
  end
end
return { 1, exact(wait), 0, 0 }
