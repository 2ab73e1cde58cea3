-- What the limiter's scripts share; it stands before each of them. The sums are those of
-- domain/bucket.rs, in the same order on the same doubles. All times are microseconds.

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

-- The level of a bucket (two fields of a hash, false when idle) at `now`.
local function drained(units, at, rate, now)
  units, at = tonumber(units) or 0, tonumber(at) or 0
  local passed = math.max(now - at, 0)
  return math.max(units - passed * rate, 0), math.max(now, at)
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

