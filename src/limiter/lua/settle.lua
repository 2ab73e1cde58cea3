-- Ends a turn: frees its place and corrects what was charged. Only the first settling counts.
-- KEYS     for each pool: levels, turns
-- ARGV     1 id  2-4 what is added on each axis
--          then for each pool: rate on each axis ('' for none); [now]
-- Returns  how many pools knew the turn
local pools = #KEYS / 2
local settings = 4 + 3 * pools
assert(#ARGV >= settings and #ARGV <= settings + 1, 'settle: wrong arity')
local now = time_now(ARGV[settings + 1])

local function correct(levels, axis, rate)
  local more = tonumber(ARGV[1 + axis])
  if rate and more ~= 0 then
    local units_field, at_field = 'u' .. axis, 'a' .. axis
    local stored = redis.call('HMGET', levels, units_field, at_field)
    local units, at = drained(stored[1], stored[2], rate, now)
    units = math.max(units + more, 0)
    redis.call('HSET', levels, units_field, exact(units), at_field, exact(at))
    keep(levels, at + units / rate)
  end
end

local known = 0
for pool = 1, pools do
  if redis.call('ZREM', KEYS[2 * pool], ARGV[1]) == 1 then
    known = known + 1
    for axis = 1, 3 do
      correct(KEYS[2 * pool - 1], axis, tonumber(ARGV[4 + 3 * (pool - 1) + axis]))
    end
  end
end
return known
