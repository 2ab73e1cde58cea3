-- Keeps a turn's place for another term. A turn that was settled, or can no longer be, does not
-- come back.
-- KEYS     each pool's turns
-- ARGV     1 id  2 term  3 how late a turn is settled; [now]
-- Returns  nothing
assert(#ARGV >= 3 and #ARGV <= 4, 'renew: wrong arity')
local now, late = time_now(ARGV[4]), tonumber(ARGV[3])
local till = now + ARGV[2]
for _, turns in ipairs(KEYS) do
  forget_turns(turns, now, late)
  redis.call('ZADD', turns, 'XX', 'GT', exact(till), ARGV[1])
  keep(turns, till + late)
end
