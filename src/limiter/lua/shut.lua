-- Shuts a gate, unless it is shut for longer already.
-- KEYS     1 gate
-- ARGV     1 time  2 reason; [now]
-- Returns  1 when this is what shuts it now, else 0
assert(#KEYS == 1 and #ARGV >= 2 and #ARGV <= 3, 'shut: wrong arity')
local now = time_now(ARGV[3])
local till = now + ARGV[1]
local gate = redis.call('GET', KEYS[1])
local known = gate and tonumber(string.match(gate, '^%S+')) or now
if till <= now or till <= known then
  return 0
end
local ms = string.format('%.0f', math.ceil(till / 1000) + 1000)
redis.call('SET', KEYS[1], exact(till) .. ' ' .. ARGV[2], 'PXAT', ms)
return 1
