-- What the limiter's scripts share; it stands before each of them. The sums are those of
-- domain/bucket.rs and domain/share.rs, in the same order on the same doubles. All times are
-- microseconds.

-- The time: the server's, one clock for all replicas. Tests give their own as the last argument.
local function time_now(given)
  if given then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- A double as text that reads back as the same double.
local function exact(number)
  return string.format('%.17g', number)
end

-- Lets a key live until this time, or longer if it already does. (PEXPIREAT's own GT is younger
-- than Redis 6.2.)
local function keep(key, time)
  local till = math.ceil(math.min(time, 8e15) / 1000) + 1000
  local left, clock = redis.call('PTTL', key), redis.call('TIME')
  if left < 0 or clock[1] * 1000 + clock[2] / 1000 + left < till then
    redis.call('PEXPIREAT', key, string.format('%.0f', till))
  end
end

-- A bucket's setting out of eight arguments: key, rate, burst, growth, floor and period of its ramp
-- ('' for none), period and offset of its resets ('' for none). A day's bucket has a capital for its
-- key.
local BUCKET = 8
local function bucket_at(first)
  local key = ARGV[first]
  return {
    key = key, daily = key == string.upper(key),
    rate = tonumber(ARGV[first + 1]), burst = tonumber(ARGV[first + 2]),
    growth = tonumber(ARGV[first + 3]), floor = tonumber(ARGV[first + 4]),
    warms = tonumber(ARGV[first + 5]),
    period = tonumber(ARGV[first + 6]), offset = tonumber(ARGV[first + 7]),
  }
end

-- What a pool's hash holds of these buckets, in the order asked: for each units, time, open share,
-- time in use, correction, the two lowest levels and when it began; then the share's low, mark, time and span; then
-- what each lane is owed; then the moments since which lowest levels are known.
local EACH = 8
local function read(levels, buckets)
  local fields = {}
  for _, bucket in ipairs(buckets) do
    local key = bucket.key
    local n = #fields
    fields[n + 1], fields[n + 2], fields[n + 3] = 'u' .. key, 'a' .. key, 'f' .. key
    fields[n + 4], fields[n + 5] = 'w' .. key, 'k' .. key
    fields[n + 6], fields[n + 7], fields[n + 8] = 'm' .. key, 'n' .. key, 'b' .. key
  end
  local n = #fields
  fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = 'sl', 'sm', 'sa', 'ss'
  fields[n + 5], fields[n + 6], fields[n + 7] = 'd0', 'd1', 'd2'
  fields[n + 8], fields[n + 9] = 'e1', 'e2'
  local stored = redis.call('HMGET', levels, unpack(fields))
  for index = 1, #stored do stored[index] = tonumber(stored[index]) end
  return stored
end

local function at_least(number, least)
  if number < least then return least end
  return number
end

local function at_most(number, most)
  if number > most then return most end
  return number
end

-- The share of the configured rates that refusals have left; `n` is how many fields come before.
local function share_now(stored, n, now)
  local low, mark, at, span = stored[n + 1], stored[n + 2], stored[n + 3], stored[n + 4]
  if not at then return 1 end
  local x = at_least(now - at, 0) / span - 1
  return at_most(at_least(mark + (mark - low) * (x * x * x), 0.01), 1)
end

-- The bucket as it is now: scaled by what is learned and by the share, and drained. Sets `units`,
-- `at`, `open`, and `rate` and `burst` to what is open.
local function drain(bucket, stored, index, share, now)
  local first = EACH * (index - 1)
  local units, at = stored[first + 1] or 0, stored[first + 2] or 0
  local learned = stored[first + 5] or 1
  bucket.low1, bucket.low2 = stored[first + 6] or 0, stored[first + 7] or 0
  bucket.began = stored[first + 8] or 0
  local scale = bucket.daily and learned or learned * share
  bucket.rate, bucket.burst, bucket.learned = bucket.rate * scale, bucket.burst * scale, learned
  bucket.whole = bucket.rate
  if bucket.roomier then bucket.burst = bucket.burst * 1.25 end
  bucket.at, bucket.open = at_least(now, at), 1
  local passed = at_least(now - at, 0)
  if bucket.period then
    local same = math.floor((bucket.at - bucket.offset) / bucket.period)
      <= math.floor((at - bucket.offset) / bucket.period)
    bucket.units = same and units or 0
  elseif bucket.growth then
    local open = at_most(at_least(stored[first + 3] or 0, bucket.floor), 1)
    local warm = at_most(stored[first + 4] or 0, bucket.warms)
    local rate = bucket.rate * open
    local busy = at_most(passed, units / rate)
    bucket.units = at_least(units - passed * rate, 0)
    local idle = passed - busy
    local grows = at_least(busy - (bucket.warms - warm), 0)
    local grown = open * math.exp((grows - 6 * idle) * bucket.growth)
    bucket.warm = at_least(at_most(warm + busy, bucket.warms) - 6 * idle, 0)
    bucket.open = at_most(at_least(grown, bucket.floor), 1)
    bucket.rate, bucket.burst = bucket.rate * bucket.open, bucket.burst * bucket.open
  else
    bucket.units = at_least(units - passed * bucket.rate, 0)
  end
end

-- When a bucket with resets is emptied next.
local function next_reset(bucket, now)
  local number = math.floor((now - bucket.offset) / bucket.period)
  return bucket.offset + (number + 1) * bucket.period
end

-- How long until `cost` fits on top of these units.
local function wait_for(bucket, units, cost)
  local over = units - (bucket.burst - at_most(cost, bucket.burst))
  if over <= 0 then return 0 end
  if bucket.period then return math.ceil(next_reset(bucket, bucket.at) - bucket.at) end
  return at_least(math.ceil(over / bucket.rate - 1e-3), 0)
end

-- When the bucket is as if it had never been used, if nothing is added to these units: empty, and
-- its ramp closed.
local function forgotten_at(bucket, units)
  if bucket.period then return next_reset(bucket, bucket.at) end
  local closes = 0
  if bucket.growth then
    closes = at_least(-math.log(bucket.floor) / bucket.growth, bucket.warms) / 6
  end
  return bucket.at + units / bucket.rate + closes
end

-- Adds a bucket's new level to the fields to be written.
local function add_level(fields, bucket, units)
  local n, key = #fields, bucket.key
  fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = 'u' .. key, exact(units), 'a' .. key, exact(bucket.at)
  fields[n + 5], fields[n + 6], fields[n + 7], fields[n + 8] = 'm' .. key, exact(bucket.low1), 'n' .. key, exact(bucket.low2)
  fields[n + 9], fields[n + 10] = 'b' .. key, exact(bucket.began)
  if bucket.growth then
    fields[n + 11], fields[n + 12] = 'f' .. key, exact(bucket.open)
    fields[n + 13], fields[n + 14] = 'w' .. key, exact(bucket.warm)
  end
end

