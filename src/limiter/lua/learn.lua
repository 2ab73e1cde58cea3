-- Remembers, for a while, by how much a provider's words correct a limit; 1 forgets it.
-- KEYS     1 levels
-- ARGV     1 bucket  2 factor  3 how long; [now]
-- Returns  nothing
assert(#KEYS == 1 and #ARGV >= 3 and #ARGV <= 4, 'learn: wrong arity')
if tonumber(ARGV[2]) == 1 then
  redis.call('HDEL', KEYS[1], 'k' .. ARGV[1])
else
  redis.call('HSET', KEYS[1], 'k' .. ARGV[1], exact(tonumber(ARGV[2])))
  keep(KEYS[1], time_now(ARGV[4]) + ARGV[3])
end
