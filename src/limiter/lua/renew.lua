-- Keeps a turn's place for another term. A turn that was settled does not come back.
-- KEYS     each pool's turns
-- ARGV     1 id  2 term  3 how late a turn is settled; [now]
-- Returns  nothing
assert(#ARGV >= 3 and #ARGV <= 4, 'renew: wrong arity')
local till = time_now(ARGV[4]) + ARGV[2]
for _, turns in ipairs(KEYS) do
  redis.call('ZADD', turns, 'XX', 'GT', exact(till), ARGV[1])
  keep(turns, till + ARGV[3])
end
