-- Stores a subscription, unless its caller has as many as it may.
-- KEYS[1] the subscriptions   KEYS[2] their version
-- ARGV[1] the caller's digest   ARGV[2] id   ARGV[3] its text   ARGV[4] the most   ARGV[5] new version
-- Returns 1 stored, 0 one too many
local own, begins = 0, ARGV[1] .. '/'
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field:sub(1, #begins) == begins then own = own + 1 end
end
if own >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], begins .. ARGV[2], ARGV[3])
redis.call('SET', KEYS[2], ARGV[5])
return 1
