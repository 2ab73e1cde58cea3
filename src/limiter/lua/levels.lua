-- Tells the levels of pools.
-- KEYS     for each pool: levels, turns, marks
-- ARGV     for each pool: buckets, and for each of them the setting; [now]
-- Returns  for each pool: {share, calls under way, {waiting in each lane}, {units, rate, burst and
--          correction of each bucket}}
local first, pools = 1, {}
for pool = 1, #KEYS / 3 do
  local count, buckets = tonumber(ARGV[first]), {}
  assert(count, 'levels: wrong arity')
  first = first + 1
  for index = 1, count do
    buckets[index] = bucket_at(first)
    first = first + BUCKET
  end
  pools[pool] = buckets
end
assert(#ARGV == first - 1 or #ARGV == first, 'levels: wrong arity')
local now = time_now(ARGV[first])

local answer = {}
for pool, buckets in ipairs(pools) do
  local stored = read(KEYS[3 * pool - 2], buckets)
  local share, told = share_now(stored, EACH * #buckets, now), {}
  for index, bucket in ipairs(buckets) do
    drain(bucket, stored, index, share, now)
    told[index] = { exact(bucket.units), exact(bucket.rate), exact(bucket.burst), exact(bucket.learned) }
  end
  local alive = '(' .. exact(now)
  local waiting = { 0, 0, 0 }
  for _, mark in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3 * pool], alive, '+inf', 'LIMIT', 0, 1000)) do
    local lane = tonumber(string.sub(mark, 2, 2)) + 1
    waiting[lane] = waiting[lane] + 1
  end
  answer[pool] = { exact(share), redis.call('ZCOUNT', KEYS[3 * pool - 1], alive, '+inf'), waiting, told }
end
return answer
