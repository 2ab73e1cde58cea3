-- Ends a turn: frees its place, corrects what was charged, and takes in what the provider said.
-- Only the first settling counts, and none that is later than a turn is settled.
-- KEYS     for each pool: levels, turns
-- ARGV     1 id  2 how long ago the turn was taken  3 and the call departed  4 how long a refusal is
--          remembered  5 how late a turn is settled
--          then for each pool: buckets, refused 0|1, and for each of its buckets the setting, what
--          is added and what the provider says is left ('' for nothing); [now]
-- Returns  how many pools knew the turn
local SOON, CUT, CUT_AGAIN, NEAR = 10e6, 0.9, 0.7, 0.15
local SPAN, LONGEST_SPAN = 15e6, 120e6
local pools = #KEYS / 2
local id, since, age, remember = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local late, first, told = tonumber(ARGV[5]), 6, {}
for pool = 1, pools do
  local count, buckets = tonumber(ARGV[first]), {}
  assert(count, 'settle: wrong arity')
  told[pool] = { refused = ARGV[first + 1] == '1', buckets = buckets }
  first = first + 2
  for index = 1, count do
    buckets[index] = bucket_at(first)
    buckets[index].more = tonumber(ARGV[first + BUCKET])
    buckets[index].left = tonumber(ARGV[first + BUCKET + 1])
    first = first + BUCKET + 2
  end
end
assert(#ARGV == first - 1 or #ARGV == first, 'settle: wrong arity')
local now = time_now(ARGV[first])

-- The share after a refusal, as in domain/share.rs.
local function refuse(levels, stored, n)
  local known = stored[n + 3]
  if known and now - age <= known then return end
  local mark, span = share_now(stored, n, now), SPAN
  local cut = known and now - known < SOON and CUT_AGAIN or CUT
  if known and math.abs(mark - stored[n + 2]) <= stored[n + 2] * NEAR then
    span = at_most(stored[n + 4] * 2, LONGEST_SPAN)
  end
  stored[n + 1], stored[n + 2] = mark * cut, mark
  stored[n + 3], stored[n + 4] = now, span
  redis.call('HSET', levels, 'sl', exact(stored[n + 1]), 'sm', exact(mark), 'sa', exact(now),
    'ss', exact(span))
  keep(levels, now + remember)
end

-- The units without what was charged too much. No more is taken out than has been in the bucket all
-- the time since; see domain/bucket.rs.
local function refund(bucket, units, older, newer)
  local low, taken = 0, now - since
  if taken < bucket.began then
    low = 0
  elseif taken >= newer then
    low = bucket.low2
  elseif taken >= older then
    low = bucket.low1
  end
  local back = at_most(at_most(-bucket.more, low), units)
  bucket.low1, bucket.low2 = at_least(bucket.low1 - back, 0), at_least(bucket.low2 - back, 0)
  return at_least(units - back, 0)
end

-- Lowest levels are known from a new moment on, once calls are younger than the one before.
local function begin_epoch(levels, pool, newer)
  if now - newer < 2 * since then return end
  local fields = { 'e1', exact(newer), 'e2', exact(now) }
  local keys = {}
  for index, bucket in ipairs(pool.buckets) do keys[index] = 'n' .. bucket.key end
  local lows = #keys > 0 and redis.call('HMGET', levels, unpack(keys)) or {}
  for index, bucket in ipairs(pool.buckets) do
    if lows[index] then
      local n = #fields
      fields[n + 1], fields[n + 2] = 'm' .. bucket.key, lows[index]
      fields[n + 3], fields[n + 4] = 'n' .. bucket.key, exact(1e300)
    end
  end
  redis.call('HSET', levels, unpack(fields))
  keep(levels, now)
end

local function correct(levels, pool)
  local stored, fields, gone = read(levels, pool.buckets), {}, 0
  local n = EACH * #pool.buckets
  if pool.refused then refuse(levels, stored, n) end
  local share = share_now(stored, n, now)
  for index, bucket in ipairs(pool.buckets) do
    if bucket.more ~= 0 or bucket.left then
      drain(bucket, stored, index, share, now)
      local units = bucket.units
      if bucket.more > 0 then
        units = at_least(units + bucket.more, 0)
      elseif bucket.more < 0 then
        units = refund(bucket, units, stored[n + 8] or 0, stored[n + 9] or 0)
      end
      if bucket.left then
        local leaked = bucket.daily and 0 or bucket.whole * age
        units = at_least(bucket.burst - (bucket.left + leaked), units)
      end
      gone = at_least(forgotten_at(bucket, units), gone)
      add_level(fields, bucket, units)
    end
  end
  if #fields > 0 then
    redis.call('HSET', levels, unpack(fields))
    keep(levels, gone)
  end
  begin_epoch(levels, pool, stored[n + 9] or 0)
end

local known = 0
for pool = 1, pools do
  local till = tonumber(redis.call('ZSCORE', KEYS[2 * pool], id))
  if till then redis.call('ZREM', KEYS[2 * pool], id) end
  if till and till >= now - late then
    known = known + 1
    correct(KEYS[2 * pool - 1], told[pool])
  end
end
return known
