-- Tells the levels of pools.
-- KEYS     for each pool: levels, turns
-- ARGV     for each pool: rate on each axis ('' for none); [now]
-- Returns  for each pool: {units on each axis or nil, calls under way}
local pools = #KEYS / 2
assert(#ARGV >= 3 * pools and #ARGV <= 3 * pools + 1, 'levels: wrong arity')
local now = time_now(ARGV[3 * pools + 1])
local answer = {}
for pool = 1, pools do
  local stored = redis.call('HMGET', KEYS[2 * pool - 1], 'u1', 'a1', 'u2', 'a2', 'u3', 'a3')
  local levels = { false, false, false }
  for axis = 1, 3 do
    local rate = tonumber(ARGV[3 * (pool - 1) + axis])
    if rate then
      levels[axis] = exact((drained(stored[2 * axis - 1], stored[2 * axis], rate, now)))
    end
  end
  levels[4] = redis.call('ZCOUNT', KEYS[2 * pool], '(' .. exact(now), '+inf')
  answer[pool] = levels
end
return answer
