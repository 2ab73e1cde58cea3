-- Puts what was spent in the place of what was set aside. Only the first settling counts.
-- ARGV     1 id  2 spent
-- Returns  whether the reservation was known
assert(#KEYS == 3 and #ARGV == 2, 'settle: wrong arity')
local cost, day, month = split(redis.call('HGET', holds, ARGV[1]))
if not cost then return 0 end
for _, window in ipairs({ day, month }) do
  release(window, cost)
  add(window, 's', ARGV[2])
end
redis.call('HDEL', holds, ARGV[1])
redis.call('ZREM', terms, ARGV[1])
return 1
